"""The hub: bounded queues, slow listeners, replay, and the end of listening."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from safelight.core.events import Event, EventKind
from safelight.server.hub import Hub


class Log:
    """The stored events of a hub, with how often they were read."""

    def __init__(self) -> None:
        self.kept: list[Event] = []
        self.reads = 0

    def add(self, job_id: str, kind: EventKind = EventKind.STEP) -> Event:
        number = sum(each.job_id == job_id for each in self.kept) + 1
        self.kept.append(Event(job_id, kind, {}, number, len(self.kept) + 1))
        return self.kept[-1]

    async def events(self, job_id, after=0):
        self.reads += 1
        await asyncio.sleep(0)
        return [each for each in self.kept if each.job_id == job_id and each.number > after]

    async def events_of(self, owner, after=0, limit=1000):
        await asyncio.sleep(0)
        return [each for each in self.kept if each.sequence > after and each.job_id.startswith(owner or "")][:limit]


async def collect(events, into, pause=None):
    async with aclosing(events):
        async for each in events:
            into.append(each)
            if pause is not None:
                await pause.wait()


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


def preview(job_id="j"):
    return Event(job_id, EventKind.PREVIEW, {"data": "x"})


def test_a_slow_listener_gets_every_stored_event_from_the_store_and_holds_nobody_up():
    async def act():
        log = Log()
        hub = Hub(log, length=4)
        fast: list = []
        slow: list = []
        go_on = asyncio.Event()
        tasks = [
            asyncio.create_task(collect(hub.follow("j"), fast)),
            asyncio.create_task(collect(hub.follow("j", previews=True), slow, go_on)),
        ]
        for _ in range(100):
            hub.stored([log.add("j")])
            hub.unstored(preview())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        hub.stored([log.add("j", EventKind.SUCCEEDED)])
        await tasks[0]
        assert [each.number for each in fast] == list(range(1, 102))
        assert len(slow) == 1
        go_on.set()
        await tasks[1]
        stored = [each.number for each in slow if each.number]
        assert stored == list(range(1, 102))
        assert len(slow) - len(stored) <= 4
        assert hub.listeners == 0

    asyncio.run(act())


def test_a_fast_listener_reads_the_store_once():
    async def act():
        log = Log()
        hub = Hub(log)
        seen: list = []
        log.add("j")
        task = asyncio.create_task(collect(hub.follow("j"), seen))
        await asyncio.sleep(0.01)
        for _ in range(20):
            hub.stored([log.add("j"), log.add("other")])
            await asyncio.sleep(0)
        hub.stored([log.add("j", EventKind.FAILED)])
        await task
        assert [each.number for each in seen] == list(range(1, 23)) and log.reads == 1

    asyncio.run(act())


def test_an_event_stored_while_the_replay_is_read_comes_once():
    async def act():
        log = Log()
        hub = Hub(log)
        reading, go_on = asyncio.Event(), asyncio.Event()
        whole = log.events

        async def slowly(job_id, after=0):
            found = await whole(job_id, after)
            reading.set()
            await go_on.wait()
            return found

        log.events = slowly
        seen: list = []
        for _ in range(3):
            log.add("j")
        task = asyncio.create_task(collect(hub.follow("j"), seen))
        await reading.wait()
        hub.stored([log.kept[-1], log.add("j"), log.add("j", EventKind.CANCELLED)])
        go_on.set()
        await task
        assert [each.number for each in seen] == [1, 2, 3, 4, 5]

    asyncio.run(act())


def test_who_begins_and_ceases_to_watch_is_told_once():
    async def act():
        log = Log()
        hub = Hub(log)
        told: list = []
        hub.on_watch = lambda job_id, watched: told.append((job_id, watched))
        streams = [hub.follow("j", previews=each, idle_s=0.01) for each in (False, True, True)]
        for each in streams:
            assert await anext(each) is None
        assert told == [("j", True)] and hub.watched("j") and hub.listeners == 3
        await streams[1].aclose()
        assert told == [("j", True)]
        await streams[2].aclose()
        await streams[0].aclose()
        assert told == [("j", True), ("j", False)] and not hub.watched("j") and hub.listeners == 0

    asyncio.run(act())


def test_closing_ends_all_listening_after_what_is_stored():
    async def act():
        log = Log()
        hub = Hub(log)
        one: list = []
        all_: list = []
        tasks = [
            asyncio.create_task(collect(hub.follow("a1"), one)),
            asyncio.create_task(collect(hub.follow_owner("a"), all_)),
        ]
        await until(lambda: hub.listeners == 2)
        log.add("a1")
        log.add("b1")
        hub.close()
        await asyncio.gather(*tasks)
        assert [each.number for each in one] == [1] and [each.job_id for each in all_] == ["a1"]
        late: list = []
        await asyncio.wait_for(collect(hub.follow("a1"), late), 60)
        assert [each.number for each in late] == [1]

    asyncio.run(act())


def test_an_owner_with_more_than_a_page_of_events_gets_them_all():
    async def act():
        log = Log()
        hub = Hub(log)
        for _ in range(2500):
            log.add("a1")
        seen: list = []
        task = asyncio.create_task(collect(hub.follow_owner("a", after=100), seen))
        await until(lambda: len(seen) == 2400)
        hub.stored([log.add("a2")])
        await until(lambda: len(seen) == 2401)
        hub.close()
        await task
        assert [each.sequence for each in seen] == list(range(101, 2502))

    asyncio.run(act())

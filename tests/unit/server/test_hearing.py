"""Hearing: a worker's words in order, written together, fenced, and its last ones before its jobs are given back."""

from __future__ import annotations

import asyncio

import pytest

from safelight.core.states import AttemptEnd, JobState
from safelight.errors import StoreUnusable
from safelight.jobs.memory import MemoryStore
from safelight.jobs.records import NewJob
from safelight.server.hearing import Hearing
from safelight.server.hub import Hub
from safelight.workers.deaths import Released
from safelight.workers.messages import Checkpointed, Happened, Heartbeat, Profile, Saved, Succeeded
from safelight.workers.pool import Limits


class Worker:
    id = "w"

    def __init__(self) -> None:
        self.attempts = {("j", 1)}
        self.told: list = []
        self.killed = False

    def send(self, message) -> None:
        self.told.append(message)

    def kill(self, hung: str = "") -> None:
        self.killed = True


class Counting(MemoryStore):
    """A store that counts its writes of events, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.appends: list[int] = []
        self.broken = False

    async def append(self, job_id, attempt, events):
        if self.broken:
            raise StoreUnusable("The disk is full.")
        self.appends.append(len(events))
        return await super().append(job_id, attempt, events)


@pytest.fixture
def worker():
    return Worker()


async def hearing_of(store, **told):
    """(hearing, what it told) over a store with job `j` claimed by `w`."""
    await store.open()
    await store.submit(NewJob("j", "me", "image.generate", {}, {}, "f", model_key="m"))
    await store.claim("j", "w", 5.0)
    said = {"changed": 0}

    def changed():
        said["changed"] += 1

    hub = Hub(store)
    usual = {"lease_s": 5.0, "limits": Limits(hang_s=60.0), "changed": changed, "declined": lambda *_: None}
    made = Hearing(store, hub, **{**usual, **told})
    return made, said


def step(number, attempt=1):
    return Happened(job="j", attempt=attempt, kind="step", data={"step": number})


SAVED = Saved(job="j", attempt=1, index=0, sha256="a" * 64, media_type="image/png", bytes=1, width=2, height=3, seed=4)
DONE = Succeeded(job="j", attempt=1, result={"ok": 1}, timings={"denoise": 1.0}, peak_bytes=9)


def test_what_piles_up_is_written_together_and_in_order(worker):
    async def act():
        store = Counting()
        hearing, said = await hearing_of(store)
        for each in [*map(step, range(50)), SAVED, *map(step, range(50, 60)), DONE]:
            await hearing.on_message(worker, each)
        await hearing.on_exit(worker, [])
        events = await store.events("j")
        kinds = [str(each.kind) for each in events]
        assert kinds == ["queued", "started", *["step"] * 50, "artifact", *["step"] * 10, "succeeded"]
        assert [each.data["step"] for each in events if each.kind == "step"] == list(range(60))
        assert store.appends == [50, 10]
        assert (await store.get("j")).state is JobState.SUCCEEDED and said["changed"] >= 2

    asyncio.run(act())


def test_progress_waits_a_moment_for_more_of_it_and_results_for_nothing(worker, monkeypatch):
    async def act():
        store = Counting()
        hearing, _ = await hearing_of(store)
        for number in range(3):
            await hearing.on_message(worker, step(number))
            await asyncio.sleep(0.002)
        assert store.appends == []
        await hearing.on_message(worker, SAVED)
        while not (await store.get("j")).artifacts:
            await asyncio.sleep(0)
        assert store.appends == [3]
        monkeypatch.setattr("safelight.server.hearing.GATHER_S", 0.01)
        await hearing.on_message(worker, step(3))
        while store.appends != [3, 1]:
            await asyncio.sleep(0.001)
        await hearing.on_exit(worker, [])

    monkeypatch.setattr("safelight.server.hearing.GATHER_S", 3600.0)
    asyncio.run(asyncio.wait_for(act(), 20))


def test_the_word_of_a_stale_attempt_is_dropped_and_the_worker_told(worker):
    async def act():
        store = Counting()
        hearing, _ = await hearing_of(store)
        for each in (step(1, attempt=9), step(2), Heartbeat(open=[("j", 1), ("gone", 4)], holds=[], bytes_free=0,
                                                          bytes_held=0, rss=0, last_pass_s=0, pass_s=0)):  # fmt: skip
            await hearing.on_message(worker, each)
        await hearing.on_exit(worker, [])
        assert [each.data.get("step") for each in await store.events("j", 2)] == [2]
        assert {(each.job, each.attempt) for each in worker.told} == {("j", 9), ("gone", 4)}

    asyncio.run(act())


def beat(*open_, pass_s=0.0):
    return Heartbeat(open=list(open_), holds=[], bytes_free=0, bytes_held=0, rss=0, last_pass_s=0, pass_s=pass_s)


@pytest.mark.parametrize(("pass_s", "patience_s"), [(0.0, 60.0), (30.0, 300.0)])
def test_an_order_that_never_arrives_is_given_out_anew(worker, pass_s, patience_s):
    """The worker speaks all the time, and never of the job that it was given: no lease is renewed for ever."""

    async def act():
        now = [100.0]
        store = MemoryStore(tick=lambda: now[0])
        hearing, said = await hearing_of(store, tick=lambda: now[0])

        async def beats(seconds: float, *open_):
            until = now[0] + seconds
            while now[0] < until:
                now[0] += 1
                await hearing.on_message(worker, beat(*open_, pass_s=pass_s))
                for _ in range(20):
                    await asyncio.sleep(0)

        await beats(2 * patience_s, ("j", 1))
        assert await store.expired() == [], "it has it, however long that takes"
        await beats(patience_s)
        assert (await store.get("j")).state is JobState.RUNNING and await store.expired() == [] and worker.told == []
        await beats(3)
        job = await store.get("j")
        assert (job.state, job.attempts[0].end) == (JobState.QUEUED, AttemptEnd.EXPIRED)
        assert "lost on the way" in job.attempts[0].message
        assert worker.attempts == set() and said["changed"] == 1
        assert [(each.job, each.attempt) for each in worker.told] == [("j", 1)], "should it come after all"
        await hearing.on_exit(worker, [])

    asyncio.run(act())


def test_last_words_are_written_before_the_job_is_given_back(worker):
    async def act():
        store = Counting()
        hearing, _ = await hearing_of(store)
        await hearing.on_message(worker, step(1))
        await hearing.on_message(worker, Checkpointed(job="j", attempt=1, folder="/nowhere/1", step=1))
        await hearing.on_exit(worker, [Released("j", 1, AttemptEnd.KILLED, "The worker w was ended by SIGKILL.")])
        job = await store.get("j")
        assert job.state is JobState.QUEUED and job.checkpoint is not None and job.checkpoint.step == 1
        assert [str(each.kind) for each in await store.events("j")] == ["queued", "started", "step", "retry"]

    asyncio.run(act())


def test_a_replaced_checkpoint_is_removed_and_the_new_one_stays(worker, tmp_path):
    async def act():
        store = Counting()
        hearing, _ = await hearing_of(store)
        for name in ("1", "2"):
            (tmp_path / name).mkdir()
            said = Checkpointed(job="j", attempt=1, folder=str(tmp_path / name), step=int(name))
            await hearing.on_message(worker, said)
        await hearing.on_exit(worker, [])

    asyncio.run(act())
    assert [each.name for each in tmp_path.iterdir()] == ["2"]


def test_a_worker_whose_word_cannot_be_stored_is_ended(worker):
    async def act():
        store = Counting()
        hearing, _ = await hearing_of(store)
        store.broken = True
        for each in (step(1), DONE):
            await hearing.on_message(worker, each)
            await asyncio.sleep(0.01)
        assert worker.killed
        store.broken = False
        await hearing.on_exit(worker, [Released("j", 1, AttemptEnd.KILLED, "gone")])
        assert (await store.get("j")).state is JobState.QUEUED

    asyncio.run(act())


def test_what_cannot_be_given_back_now_is_left_to_the_end_of_its_lease(worker, caplog):
    class Full(MemoryStore):
        async def release(self, *given, **named):
            raise StoreUnusable("The disk is full.")

    async def act():
        now = [100.0]
        store = Full(tick=lambda: now[0])
        hearing, said = await hearing_of(store)
        await hearing.on_exit(worker, [Released("j", 1, AttemptEnd.KILLED, "gone")])
        assert said["changed"] == 1 and "cannot be given back now" in caplog.text
        assert await store.expired() == []
        now[0] += 6
        assert [job.id for job in await store.expired()] == ["j"]

    asyncio.run(act())


def test_a_measured_cost_is_no_news(worker):
    async def act():
        store = Counting()
        hearing, _ = await hearing_of(store)
        await hearing.on_message(worker, Profile(network="n", shape="4x8x8", dtype="fp32", width=2, seconds=0.5))
        await hearing.on_exit(worker, [])
        assert not worker.killed and store.appends == [] and await store.notes("profile") == {}

    asyncio.run(act())


def test_an_order_that_the_worker_has_not_read_yet_keeps_its_lease(worker):
    """It is in the middle of a pass that takes longer than a lease; its heartbeats say that it lives."""

    async def scenario():
        now = [1000.0]
        store = MemoryStore(tick=lambda: now[0])
        hearing, _ = await hearing_of(store)
        beat = Heartbeat(open=[], holds=[], bytes_free=0, bytes_held=0, rss=0, last_pass_s=0.0, pass_s=0.0)
        for _ in range(4):
            now[0] += 3.0
            await hearing.on_message(worker, beat)
            await asyncio.sleep(0.01)
        expired = await store.expired()
        now[0] += 6.0
        return expired, await store.expired()

    alive, silent = asyncio.run(scenario())
    assert alive == [] and [job.id for job in silent] == ["j"]
    assert worker.attempts == {("j", 1)} and worker.told == []

"""The pool's judgement, with a launcher whose workers the test plays."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest
from tests.unit.workers.playing import serving, spec

from safelight.core.states import AttemptEnd
from safelight.errors import StoreUnusable, WorkerUnavailable
from safelight.workers import pool as judged
from safelight.workers.channel import Channel
from safelight.workers.frames import BadFrame, pack
from safelight.workers.handle import WorkerHandle
from safelight.workers.messages import Assign, Broken, Ready, Succeeded, ToServer
from safelight.workers.pool import Limits

READY = Ready(pid=1, device="cpu", device_name="x", dtype="fp32", threads=1, bytes_free=7, versions={})


class Played:
    """Starts workers that are sockets: `sockets[n]` is the nth one's end; `die` ends it with a code."""

    def __init__(self, *refusals):
        self.refusals = list(refusals)
        self.sockets, self.codes = [], []

    async def start(self, spec):
        if self.refusals:
            refusal = self.refusals.pop(0)
            raise WorkerUnavailable(refusal) if isinstance(refusal, str) else refusal
        ours, theirs = socket.socketpair()
        channel = Channel(*await asyncio.open_connection(sock=ours), ToServer)
        code = asyncio.get_running_loop().create_future()
        self.sockets.append(theirs)
        self.codes.append(code)
        number = len(self.sockets) - 1
        return WorkerHandle(spec, number, channel, code, lambda: self.die(number, -signal.SIGKILL))

    async def close(self):
        pass

    def say(self, number, *messages):
        for message in messages:
            self.sockets[number].sendall(pack(message))

    def die(self, number, code):
        if not self.codes[number].done():
            self.sockets[number].close()
            self.codes[number].set_result(code)


def assign(job):
    return Assign(job=job, attempt=1, resolved={}, recipe="", folder="", owner="")


@pytest.mark.parametrize(
    ("before", "now", "end"),
    [(4, 5, AttemptEnd.CRASHED), (4, 4, AttemptEnd.KILLED), (None, None, AttemptEnd.KILLED)],
)
def test_a_sigkill_is_the_kernels_where_its_count_rose(monkeypatch, before, now, end):
    counts = [before]
    monkeypatch.setattr(judged, "oom_kills", lambda: counts[-1])

    async def scenario():
        launcher = Played()
        async with serving(launcher, spec()) as server:
            await server.until_polled(lambda: launcher.sockets)
            launcher.say(0, READY)
            worker = await server.ready()
            worker.send(assign("a"))
            counts.append(now)
            launcher.die(0, -signal.SIGKILL)
            return await server.end()

    worker, (released,) = asyncio.run(scenario())
    assert released.end is end
    assert worker.death.oom is (end is AttemptEnd.CRASHED)
    assert ("out-of-memory killer" in released.message) is worker.death.oom


def test_last_words_are_heard_before_the_death_is_judged():
    async def scenario():
        launcher = Played()
        async with serving(launcher, spec()) as server:
            await server.until_polled(lambda: launcher.sockets)
            launcher.say(0, READY)
            worker = await server.ready()
            for job in "ab":
                worker.send(assign(job))
            launcher.say(0, Succeeded(job="a", attempt=1, result={}, timings={}, peak_bytes=0))
            launcher.die(0, -signal.SIGSEGV)
            _, released = await server.end()
            return server.of(Succeeded), released

    succeeded, (released,) = asyncio.run(scenario())
    assert [m.job for m in succeeded] == ["a"]
    assert (released.job, released.end) == ("b", AttemptEnd.CRASHED), "a was over: b was the only open one"


def test_a_message_the_server_cannot_deal_with_ends_that_worker_alone(caplog):
    async def scenario():
        launcher = Played()
        async with serving(launcher, spec()) as server:
            hear = server.pool._on_message

            async def choke(worker, message):
                if isinstance(message, Succeeded):
                    raise OSError("the disk is full")
                await hear(worker, message)

            server.pool._on_message = choke
            await server.until_polled(lambda: launcher.sockets)
            launcher.say(0, READY)
            worker = await server.ready()
            worker.send(assign("a"))
            worker.send(assign("b"))
            launcher.say(0, Succeeded(job="a", attempt=1, result={}, timings={}, peak_bytes=0))
            _, released = await server.end()
            await server.until_polled(lambda: len(launcher.sockets) == 2)
            return released

    released = asyncio.run(scenario())
    assert [(each.job, each.end) for each in released] == [("b", AttemptEnd.KILLED)]
    assert "could not be dealt with" in caplog.text and "the disk is full" in caplog.text


def test_starts_that_fail_are_counted_and_forgotten_after_a_good_life():
    async def scenario():
        launcher = Played("no room", "no room")
        async with serving(launcher, spec(), limits=Limits(backoff_s=0.02)) as server:
            await server.until_polled(lambda: server.pool.troubles)
            first = server.pool.troubles["cpu"]
            await server.until_polled(lambda: launcher.sockets)
            launcher.say(0, Broken(message="no such device", trace="T"))
            launcher.die(0, 70)
            await server.end()
            await server.until_polled(lambda: len(launcher.sockets) == 2)
            third = server.pool.troubles["cpu"]
            launcher.say(1, READY)
            worker = await server.ready()
            worker.send(assign("a"))
            launcher.die(1, -signal.SIGSEGV)
            await server.until_polled(lambda: len(launcher.sockets) == 3)
            return first, third, server.pool.troubles

    first, third, last = asyncio.run(scenario())
    assert (first.failures, first.reason) == (1, "no room")
    assert (third.failures, third.reason) == (3, "The worker cpu broke: no such device.")
    assert last == {}


def test_what_goes_wrong_around_a_worker_is_a_trouble_and_the_next_start_is_tried():
    async def scenario():
        launcher = Played(OSError(24, "Too many open files"), BadFrame("too long"), StoreUnusable("The disk is full."))
        async with serving(launcher, spec(), limits=Limits(backoff_s=0.02)) as server:
            reasons = []
            for number in (1, 2, 3):
                await server.until_polled(
                    lambda number=number: [t for t in server.pool.troubles.values() if t.failures == number]
                )
                reasons.append(server.pool.troubles["cpu"].reason)
            await server.until_polled(lambda: launcher.sockets)
            launcher.say(0, READY)
            await server.ready()
            return reasons, server.pool.kept

    reasons, kept = asyncio.run(scenario())
    said = ("Too many open files", "too long", "The disk is full.")
    assert all(
        "worker cpu could not be kept" in reason and words in reason
        for reason, words in zip(reasons, said, strict=True)
    )
    assert kept


def test_a_store_that_fails_when_a_worker_ends_costs_no_worker():
    async def scenario():
        launcher = Played()
        async with serving(launcher, spec(), limits=Limits(backoff_s=0.02)) as server:
            leave = server.pool._on_exit

            async def fail_once(worker, released):
                server.pool._on_exit = leave
                raise StoreUnusable("The disk is full.")

            server.pool._on_exit = fail_once
            await server.until_polled(lambda: launcher.sockets)
            launcher.say(0, READY)
            await server.ready()
            launcher.die(0, -signal.SIGKILL)
            await server.until_polled(lambda: len(launcher.sockets) == 2)
            trouble = server.pool.troubles["cpu"]
            launcher.say(1, READY)
            await server.ready(2)
            return trouble, server.pool.kept, server.pool.workers["cpu"].pid

    trouble, kept, pid = asyncio.run(scenario())
    assert "The disk is full." in trouble.reason and kept and pid == 1


def test_a_keeper_that_has_ended_is_seen(caplog):
    class Faulty(Played):
        async def start(self, spec):
            raise ZeroDivisionError("a fault of ours")

    async def scenario():
        async with serving(Faulty(), spec()) as server:
            await server.until_polled(lambda: not server.pool.kept)

    asyncio.run(scenario())
    assert "worker cpu had ended" in caplog.text and "a fault of ours" in caplog.text


def test_an_idle_worker_that_keeps_crashing_is_a_trouble_but_a_kill_from_outside_is_none():
    async def scenario(code):
        launcher = Played()
        async with serving(launcher, spec(), limits=Limits(backoff_s=0.02)) as server:
            for number in range(2):
                await server.until_polled(lambda number=number: len(launcher.sockets) == number + 1)
                launcher.say(number, READY)
                await server.ready(number + 1)
                launcher.die(number, code)
            await server.until_polled(lambda: len(launcher.sockets) == 3)
            return server.pool.troubles

    assert asyncio.run(scenario(-signal.SIGSEGV))["cpu"].failures == 2
    assert asyncio.run(scenario(-signal.SIGKILL)) == {}


def test_a_worker_that_never_gets_ready_is_ended():
    async def scenario():
        launcher = Played()
        limits = Limits(ready_s=0.2, tick_s=0.05, backoff_s=0.02)
        async with serving(launcher, spec(), limits=limits) as server:
            worker, released = await server.end()
            return worker, released

    worker, released = asyncio.run(scenario())
    assert "not ready within 0.2 s" in worker.death.hung and released == []

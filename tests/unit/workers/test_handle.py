"""A handle on a connection whose other end the test plays."""

from __future__ import annotations

import asyncio
import signal
import socket
import time

import pytest

from safelight.workers.channel import BACKLOG_LIMIT, BlockingChannel, Channel, ChannelClosed, Closed
from safelight.workers.frames import pack
from safelight.workers.handle import WorkerHandle, WorkerState
from safelight.workers.messages import (
    Assign,
    Broken,
    Cancel,
    Declined,
    Ended,
    Heartbeat,
    Ready,
    Succeeded,
    ToServer,
    ToWorker,
)
from safelight.workers.spec import WorkerSpec

READY = Ready(pid=1, device="cpu", device_name="x", dtype="fp32", threads=1, bytes_free=7, versions={})


def beat(last_pass_s=0.0, pass_s=0.0):
    return Heartbeat(
        open=[], holds=["w"], bytes_free=5, bytes_held=1, rss=1, last_pass_s=last_pass_s, pass_s=pass_s
    )  # fmt: skip


def assign(job, attempt=1):
    return Assign(job=job, attempt=attempt, resolved={}, recipe="", folder="", owner="")


async def connected():
    """(handle, the worker's socket). The worker's process is ended by `kill`, at once."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    exit_code = asyncio.get_running_loop().create_future()

    def kill():
        if not exit_code.done():
            exit_code.set_result(-signal.SIGKILL)

    return WorkerHandle(WorkerSpec(id="w"), 1, Channel(reader, writer, ToServer), exit_code, kill), theirs


async def hear(handle):
    return [message async for message in handle.messages()]


def test_what_a_worker_says_is_reflected_in_its_handle():
    async def scenario():
        handle, worker = await connected()
        for job in "abcd":
            handle.send(assign(job))
        worker.sendall(pack(READY) + pack(beat()))
        worker.sendall(pack(Succeeded(job="a", attempt=1, result={}, timings={}, peak_bytes=0)))
        worker.sendall(pack(Ended(job="b", attempt=1, end="error")) + pack(Declined(job="c", attempt=1, reason="no")))
        worker.sendall(pack(Ended(job="d", attempt=9, end="error")))
        worker.close()
        heard = await hear(handle)
        state, holds, free = handle.state, handle.holds, handle.bytes_free
        death = await handle.gone(within_s=0.01)
        return heard, state, holds, free, handle, death

    heard, state, holds, free, handle, death = asyncio.run(scenario())
    assert len(heard) == 6 and heard[0] == READY
    assert (state, holds, free) == (WorkerState.READY, {"w"}, 5)
    assert handle.attempts == {("d", 1)}, "another attempt's end does not end this one"
    assert (handle.state, death.code) == (WorkerState.GONE, -signal.SIGKILL)


@pytest.mark.parametrize(
    ("bytes_", "words"),
    [
        (b"\xff\xff\xff\xff", "4294967295 bytes was announced"),
        (b"\x00\x00\x00\x01\xc1", "holds no message that is known here"),
        (pack(Cancel(job="a", attempt=1)), "holds no message that is known here"),
    ],
)
def test_a_worker_that_speaks_nonsense_is_ended_with_words(bytes_, words):
    async def scenario():
        handle, worker = await connected()
        worker.sendall(pack(READY) + bytes_)
        heard = await hear(handle)
        with pytest.raises(ChannelClosed):
            handle.send(Cancel(job="a", attempt=1))
        worker.close()
        return heard, await handle.gone()

    heard, death = asyncio.run(scenario())
    assert heard == [READY]
    assert death.code == -signal.SIGKILL and words in death.error


def test_a_worker_that_does_not_read_is_given_up_and_holds_up_nobody():
    async def scenario():
        handle, worker = await connected()
        big = Assign(job="a", attempt=1, resolved={"x": "y" * 4_000_000}, recipe="", folder="", owner="")
        with pytest.raises(ChannelClosed, match="wait to be read"):
            for _ in range(BACKLOG_LIMIT // 4_000_000 + 3):
                handle.send(big)
        heard = await hear(handle)
        worker.close()
        await handle.gone(0.01)
        return heard

    assert asyncio.run(scenario()) == []


def test_an_assignment_that_was_not_sent_is_not_open():
    async def scenario():
        handle, worker = await connected()
        worker.close()
        await hear(handle)
        await handle.gone(0.01)
        with pytest.raises(ChannelClosed):
            handle.send(assign("a"))
        return handle.attempts

    assert asyncio.run(scenario()) == set()


@pytest.mark.parametrize(
    ("message", "open_", "later", "stuck"),
    [
        (beat(last_pass_s=59), True, 0, ""),
        (beat(last_pass_s=61), True, 0, "no piece of work ended within 61.0 s, more than 60.0 s"),
        (beat(last_pass_s=61), False, 0, ""),
        (beat(last_pass_s=61, pass_s=20), True, 0, ""),
        (beat(last_pass_s=201, pass_s=20), True, 0, "more than 200.0 s"),
        (beat(last_pass_s=31), True, 30, "no piece of work"),
        (beat(), True, 61, "nothing was heard of it for 61.0 s"),
        (beat(), False, 61, "nothing was heard of it for 61.0 s"),
        (beat(), False, 59, ""),
    ],
)
def test_what_counts_as_hung(message, open_, later, stuck):
    async def scenario():
        handle, worker = await connected()
        if open_:
            handle.send(assign("a"))
        worker.sendall(pack(READY) + pack(message))
        worker.close()
        await hear(handle)
        why = handle.stuck(handle.heard_at + later, 60, 10)
        await handle.gone(0.01)
        return why

    why = asyncio.run(scenario())
    assert stuck in why if stuck else why == ""


def test_what_it_said_was_wrong_is_in_its_death():
    async def scenario():
        handle, worker = await connected()
        worker.sendall(pack(Broken(message="KeyError: 'x'", trace="T")))
        worker.close()
        await hear(handle)
        return await handle.gone(0.01)

    death = asyncio.run(scenario())
    assert (death.error, death.trace) == ("KeyError: 'x'", "T")


def test_the_blocking_end_queues_what_comes_and_last_why_no_more_will():
    ours, theirs = socket.socketpair()
    channel = BlockingChannel(theirs, ToWorker)
    channel.listen()
    ours.sendall(pack(Cancel(job="a", attempt=1)))
    assert channel.incoming.get(timeout=5) == Cancel(job="a", attempt=1)
    channel.send(READY)
    assert ours.recv(1000) == pack(READY)
    ours.sendall(b"\xff\xff\xff\xff")
    last = channel.incoming.get(timeout=5)
    assert isinstance(last, Closed) and "announced" in last.reason
    ours.close()
    with pytest.raises(ChannelClosed):
        for _ in range(100):
            channel.send(READY)
            time.sleep(0.01)
    channel.close()

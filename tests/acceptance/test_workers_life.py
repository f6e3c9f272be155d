"""Workers as real processes: they start, work, die, and others take their place."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from itertools import pairwise

import psutil
import pytest
from tests.unit.workers.playing import HERE, PRELOAD, ROOT, assign, serving, spec

from safelight.core.states import AttemptEnd
from safelight.workers.handle import WorkerState
from safelight.workers.local import LocalLauncher
from safelight.workers.messages import (
    Cancel,
    Checkpointed,
    Declined,
    Ended,
    Happened,
    Heartbeat,
    Pause,
    Profile,
    Ready,
    Saved,
    Shutdown,
    Succeeded,
    Watch,
)
from safelight.workers.pool import Limits


@pytest.fixture(scope="module")
def run():
    """Runs a coroutine on the module's event loop, in a place where workers find the loops of these tests."""
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setenv("PYTHONPATH", str(ROOT))
        yield runner.run


@pytest.fixture(scope="module")
def launcher(run):
    """One zygote for all."""
    launcher = LocalLauncher(preload=PRELOAD)
    yield launcher
    run(launcher.close())


@pytest.mark.parametrize("fork", [True, False])
@pytest.mark.parametrize("tcp", [True, False])
def test_a_worker_starts_and_says_what_its_loop_reports(run, fork, tcp, tmp_path):
    async def scenario():
        launcher = LocalLauncher(tmp_path, PRELOAD, fork=fork, tcp=tcp)
        async with serving(launcher, spec(threads=2)) as server:
            worker = await server.ready()
            worker.send(assign("a", "draw", attempt=7, previews=True))
            await server.until(lambda: server.of(Succeeded))
            await server.until(lambda: server.of(Heartbeat))
            assert worker.attempts == set()
        await launcher.close()
        return server, worker

    server, worker = run(scenario())
    (ready,) = server.of(Ready)
    assert (ready.pid, ready.device, ready.threads, ready.bytes_free) == (worker.pid, "cpu", 2, 1000)
    assert ready.versions["torch"] and ready.dtype in ("fp32", "bf16")
    about = [m for _, m in server.said if not isinstance(m, Ready | Heartbeat)]
    assert about == [
        Happened(job="a", attempt=7, kind="started", data={"previews": True, "pid": worker.pid}),
        Saved(job="a", attempt=7, index=0, sha256="0" * 64, media_type="image/png", bytes=1, width=2, height=3, seed=4),
        Profile(network="net", shape="4x8x8", dtype="fp32", width=1, seconds=0.5),
        Succeeded(job="a", attempt=7, result={"pid": worker.pid}, timings={"denoise": 0.5}, peak_bytes=9),
    ]
    assert worker.beat.rss > 50_000_000 and worker.holds == {"weights"}
    assert worker.death.code == 0 and worker.state is WorkerState.GONE
    assert list(tmp_path.iterdir()) == [], "the socket is removed"


def test_a_job_is_watched_paused_cancelled_and_declined(run, launcher):
    async def scenario():
        async with serving(launcher) as server:
            worker = await server.ready()
            for job in ("a", "b", "c"):
                worker.send(assign(job, "wait"))
            worker.send(assign("d", "draw", alone=True))
            worker.send(Watch(job="a", attempt=1, previews=True))
            worker.send(Pause(job="a", attempt=1, end="preempted"))
            worker.send(Cancel(job="b", attempt=1))
            await server.until(lambda: len(server.of(Ended)) == 2 and server.of(Declined))
            assert worker.attempts == {("c", 1)}
            return server

    server = run(scenario())
    assert [m.data for m in server.of(Happened, "a")][1:] == [{"message": "previews True"}]
    assert [(m.folder, m.step) for m in server.of(Checkpointed, "a")] == [("somewhere", 3)]
    ends = {m.job: m.end for m in server.of(Ended)}
    assert ends == {"a": "preempted", "b": "cancelled", "c": "server_stopped"}, "c was given back at the end"
    assert server.of(Declined, "d")[0].reason == "It is to run alone, and 3 others are open."
    assert server.exits[-1][1] == [], "nothing was left to release"


def test_a_request_that_cannot_be_read_is_refused_and_harms_nobody(run, launcher):
    async def scenario():
        async with serving(launcher) as server:
            worker = await server.ready()
            worker.send(assign("a", "", resolved={"operation": "test.do", "prompt": 3}))
            worker.send(assign("b", "draw", recipe="no.such:thing"))
            worker.send(assign("c", "draw", recipe=f"{HERE}:broken_recipe"))
            worker.send(assign("d", "draw"))
            await server.until(lambda: server.of(Succeeded, "d"))
            return server

    server = run(scenario())
    ends = {m.job: m for m in server.of(Ended)}
    assert {m.end for m in ends.values()} == {"refused"}
    assert "prompt" in ends["a"].message
    assert "'no.such:thing' cannot be read: No module named 'no'" in ends["b"].message
    assert "no such family" in ends["c"].message


def test_heartbeats_go_on_while_a_pass_runs_and_tell_how_long(run, launcher):
    async def scenario():
        async with serving(launcher, spec(debug={"expected_s": "0.7"})) as server:
            worker = await server.ready()
            before = len(server.of(Heartbeat))
            worker.send(assign("a", "busy 1.5"))
            await server.until(lambda: server.of(Succeeded))
            return server.of(Heartbeat)[before:]

    beats = [beat for beat in run(scenario()) if beat.open]
    assert len(beats) >= 8 and beats[0].open == [("a", 1)]
    assert max(beat.last_pass_s for beat in beats) > 1.2
    assert all(one.last_pass_s < other.last_pass_s for one, other in pairwise(beats))
    assert {beat.pass_s for beat in beats[1:-1]} == {0.7}


@pytest.mark.parametrize(
    ("prompt", "code", "one", "two"),
    [
        ("segv", -signal.SIGSEGV, AttemptEnd.CRASHED, AttemptEnd.SUSPECT),
        ("abort", -signal.SIGABRT, AttemptEnd.CRASHED, AttemptEnd.SUSPECT),
        ("kill", -signal.SIGKILL, AttemptEnd.KILLED, AttemptEnd.KILLED),
        ("raise", 70, AttemptEnd.ERROR, AttemptEnd.SUSPECT),
        ("exit", 3, AttemptEnd.ERROR, AttemptEnd.SUSPECT),
    ],
)
def test_deaths_are_told_apart_and_another_worker_takes_over(run, launcher, prompt, code, one, two):
    async def scenario():
        async with serving(launcher) as server:
            first = await server.ready()
            first.send(assign("a", prompt))
            _, alone = await server.end()
            second = await server.ready(2)
            second.send(assign("b", "wait"))
            second.send(assign("c", prompt, attempt=2))
            _, several = await server.end(2)
            third = await server.ready(3)
            third.send(assign("d", "draw"))
            await server.until(lambda: server.of(Succeeded, "d"))
            assert not server.pool.troubles, "jobs explain these deaths: nothing to wait for"
            return first, alone, several, second

    first, alone, several, second = run(scenario())
    assert first.death.code == code
    assert [(each.job, each.attempt, each.end) for each in alone] == [("a", 1, one)]
    assert [(each.job, each.attempt, each.end) for each in several] == [("b", 1, two), ("c", 2, two)]
    if prompt == "raise":
        assert "the loop itself broke" in alone[0].message and "RuntimeError" in alone[0].trace
    assert second.pid != first.pid


def test_sigkill_from_outside_is_seen_at_once_and_charged_to_nobody(run, launcher):
    async def scenario():
        async with serving(launcher) as server:
            worker = await server.ready()
            worker.send(assign("a", "busy 300"))
            await server.until(lambda: server.of(Happened, "a"))
            os.kill(worker.pid, signal.SIGKILL)
            _, released = await server.end()
            other = await server.ready(2)
            return worker, other, released

    worker, other, released = run(scenario())
    assert [(each.end, each.alone) for each in released] == [(AttemptEnd.KILLED, False)]
    assert worker.death.code == -signal.SIGKILL and not worker.death.oom
    assert other.pid != worker.pid


@pytest.mark.parametrize(
    ("loop", "prompt", "words"),
    [
        ("ObedientLoop", "busy 300", "no piece of work ended within"),
        ("Silent", "draw", "nothing was heard of it for"),
    ],
)
def test_a_hung_worker_is_ended_and_its_jobs_are_suspects(run, launcher, loop, prompt, words):
    async def scenario():
        limits = Limits(hang_s=0.8, tick_s=0.1)
        async with serving(launcher, spec(loop), limits=limits) as server:
            worker = await server.ready()
            worker.send(assign("a", prompt))
            _, released = await server.end()
            await server.ready(2)
            return worker, released

    worker, (released,) = run(scenario())
    assert released.end is AttemptEnd.SUSPECT and released.alone
    assert words in released.message and "more than 0.8 s" in released.message
    assert worker.death.code == -signal.SIGKILL


def test_long_work_that_was_learnt_to_be_long_is_no_hang(run, launcher):
    async def scenario():
        limits = Limits(hang_s=0.5, tick_s=0.1)
        async with serving(launcher, spec(debug={"expected_s": "30"}), limits=limits) as server:
            worker = await server.ready()
            worker.send(assign("a", "busy 1.5"))
            await server.until(lambda: server.of(Succeeded) or server.exits)
            return server

    assert run(scenario()).of(Succeeded, "a")


def test_sigterm_checkpoints_and_gives_back(run, launcher):
    async def scenario():
        async with serving(launcher) as server:
            worker = await server.ready()
            worker.send(assign("a", "wait"))
            await server.until(lambda: server.of(Happened, "a"))
            os.kill(worker.pid, signal.SIGTERM)
            _, released = await server.end()
            await server.ready(2)
            return server, worker, released

    server, worker, released = run(scenario())
    assert server.of(Checkpointed, "a") and server.of(Ended, "a")[0].end == "server_stopped"
    assert worker.death.code == 0 and released == []


def test_a_worker_that_cannot_stop_ends_after_its_grace(run, launcher):
    async def scenario():
        async with serving(launcher, spec("StopsNever")) as server:
            worker = await server.ready()
            worker.send(assign("a", "wait"))
            await server.until(lambda: server.of(Happened, "a"))
            worker.send(Shutdown(grace_s=0.3))
            _, released = await server.end()
            return released

    assert [each.end for each in run(scenario())] == [AttemptEnd.KILLED]


def test_a_worker_that_cannot_start_is_tried_again_ever_more_slowly_and_reported(run, launcher):
    async def scenario():
        limits = Limits(backoff_s=0.05)
        async with serving(launcher, spec("cannot"), spec(id="other"), limits=limits) as server:
            began = time.monotonic()
            await server.end(4)
            trouble = server.pool.troubles["cpu"]
            assert (await server.ready()).id == "other"
            assert [worker.id for worker in server.pool.ready] == ["other"]
            return trouble, time.monotonic() - began

    trouble, took_s = run(scenario())
    assert trouble.failures >= 3 and "there is no such device" in trouble.reason
    assert took_s > 0.05 + 0.1 + 0.2


def _gone(pid):
    """Whether the process has ended; one that nobody has reaped yet has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_zygote_that_dies_takes_its_workers_along_and_is_replaced(run, launcher):
    async def scenario():
        async with serving(launcher) as server:
            worker = await server.ready()
            worker.send(assign("a", "wait"))
            await server.until(lambda: server.of(Happened, "a"))
            os.kill(psutil.Process(worker.pid).ppid(), signal.SIGKILL)
            _, released = await server.end()
            other = await server.ready(2)
            return worker, other, released

    worker, other, (released,) = run(scenario())
    assert released.end is AttemptEnd.KILLED and "nobody saw how" in released.message
    assert other.pid != worker.pid
    deadline = time.monotonic() + 30
    while not _gone(worker.pid):
        assert time.monotonic() < deadline, "the worker outlives its zygote"
        time.sleep(0.05)


def test_closing_while_a_worker_starts_leaves_nothing_behind(run):
    async def scenario():
        launcher = LocalLauncher(preload=PRELOAD)
        async with serving(launcher):
            await asyncio.sleep(0.3)
        await launcher.close()

    before = {child.pid for child in psutil.Process().children(recursive=True)}
    run(scenario())
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before

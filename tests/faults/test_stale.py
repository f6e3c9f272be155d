"""Who is late is refused; who has lost its server ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import httpx
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from tests.acceptance.real_server import RealServer
from tests.unit.workers.playing import gone_within

from .mix import asked, pixels
from .watching import Watch, leftovers

ENDS_WITHIN_S = 15.0
"""Patience with a busy machine; on an idle one it takes milliseconds."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """One with short leases."""
    home = tmp_path_factory.mktemp("leased") / "home"
    with RealServer(home, **{"jobs.lease_s": 1.5, "jobs.heartbeat_s": 0.1}) as running:
        yield running


@pytest.fixture(scope="module")
def peace(server: RealServer) -> NDArray[np.uint8]:
    """What `exact` draws when nothing happens."""
    return pixels(server.file(server.submit(asked("exact", 1))))


@pytest.mark.parametrize("where", ["artifacts", pytest.param("checkpoints", marks=pytest.mark.slow)])
def test_a_worker_that_wakes_after_its_lease_leaves_no_trace(
    server: RealServer, peace: NDArray[np.uint8], where: str
) -> None:
    """It is stopped in the middle of writing, sleeps past its lease, and goes on: its file, its checkpoint and its
    words come late, from an attempt that is over."""
    worker = server.worker_pid()
    with Watch(server.home / where, lambda: os.kill(worker, signal.SIGSTOP), nth=1 if where == "artifacts" else 8):
        job = server.submit(asked("exact", 2 if where == "artifacts" else 3))
        until = time.monotonic() + 20
        while [each["end"] for each in server.job(job)["attempts"]] != ["expired"]:
            assert time.monotonic() < until, (server.job(job)["attempts"], server.log())
            time.sleep(0.02)
    told = len(events_so_far(server, job))
    time.sleep(2.5)
    assert server.job(job)["state"] == "queued", "a silent worker gets nothing more to lose"
    assert len(events_so_far(server, job)) == told
    assert server.http.get("/health").status_code == 200
    os.kill(worker, signal.SIGCONT)
    record = server.finished(job)
    assert record["state"] == "succeeded" and server.worker_pid() == worker
    assert [attempt["end"] for attempt in record["attempts"]] == ["expired", "succeeded"]
    assert np.array_equal(pixels(server.file(job)), peace)
    assert "drops a stale attempt" in server.log()
    events = server.events(job)
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    after = events[told:]
    assert after[0]["kind"] == "started" and after[0]["data"]["attempt"] == 2, "nothing of the late attempt is told"
    steps = [event["data"]["step"] for event in after if event["kind"] == "step"]
    assert steps == sorted(set(steps)), "the second attempt's steps alone"
    assert len(record["artifacts"]) == 1 and leftovers(server.home / "artifacts") == []


def test_a_killed_server_takes_workers_zygote_and_files_processes_along(server: RealServer) -> None:
    """The last here, for nobody can use the server after it."""
    try:
        job = server.submit(steps=150, width=128, height=128)
        server.submit(asked("shared transform", 1))  # its picture is looked at in the files processes
        server.wait_for_step(job, 2)
        assert server.process is not None
        children = psutil.Process(server.process.pid).children(recursive=True)
        running = " ".join(" ".join(each.cmdline()) for each in children)
        assert "safelight.workers.zygote" in running and "safelight.workers.files_process" in running
        assert server.worker_pid() in {each.pid for each in children}
    finally:
        server.kill()
    assert gone_within([each.pid for each in children], ENDS_WITHIN_S) is not None, "they outlive their server"


def events_so_far(server: RealServer, job: str) -> list[str]:
    """What is stored of a job that is not over: the ids of its events."""
    found: list[str] = []
    with server.http.stream("GET", f"/v1/jobs/{job}/stream", timeout=1.0) as stream:
        try:
            found.extend(line for line in stream.iter_lines() if line.startswith("id:"))
        except httpx.ReadTimeout:
            return found  # the stream of a job that is not over stays open
    return found

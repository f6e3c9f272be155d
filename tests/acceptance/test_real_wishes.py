"""The owner's wishes on a running server: paused, resumed and pre-empted at a step boundary, and the same picture."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .real_server import RealServer
from .test_real_server import STEADY, pixels, whole


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with RealServer(tmp_path_factory.mktemp("server") / "home", **{"jobs.max_open": 1}) as running:
        running.worker_pid()
        yield running


@pytest.fixture(scope="module")
def undisturbed(server: RealServer) -> bytes:
    return pixels(server.file(server.submit(STEADY)))


def wish(server: RealServer, job: str, **body: Any) -> None:
    answer = server.http.patch(f"/v1/jobs/{job}", json=body)
    assert answer.status_code == 200, answer.text


def wait_for_state(server: RealServer, job: str, state: str) -> None:
    until = time.monotonic() + 30
    while server.job(job)["state"] != state:
        assert time.monotonic() < until, (server.job(job), server.log())
        time.sleep(0.02)


def test_a_paused_job_goes_on_at_its_step_and_gives_the_same_picture(server: RealServer, undisturbed: bytes) -> None:
    job = server.submit(STEADY)
    server.wait_for_step(job, 6)
    wish(server, job, paused=True)
    wait_for_state(server, job, "paused")
    other = server.submit(steps=1)
    assert server.finished(other)["state"] == "succeeded", "the worker is free meanwhile"
    assert server.job(job)["state"] == "paused"
    wish(server, job, paused=False)
    assert pixels(server.file(job)) == undisturbed
    assert server.steps(job) == list(range(1, STEADY["steps"] + 1)), "no step was done twice"
    whole(server, job)


def test_a_job_paused_in_the_queue_waits_for_its_owner(server: RealServer) -> None:
    running = server.submit(steps=20)
    server.wait_for_step(running, 1)
    queued = server.submit(steps=1)
    wish(server, queued, paused=True)
    assert server.job(queued)["state"] == "paused"
    assert server.finished(running)["state"] == "succeeded"
    assert server.job(queued)["state"] == "paused"
    wish(server, queued, paused=False)
    assert server.finished(queued)["state"] == "succeeded"


def test_a_preempted_job_goes_on_at_its_step_and_gives_the_same_picture(server: RealServer, undisturbed: bytes) -> None:
    job = server.submit(STEADY)
    server.wait_for_step(job, 6)
    urgent = server.submit(steps=2, seed=9, priority=5)
    assert pixels(server.file(job)) == undisturbed
    assert server.job(urgent)["ended_at"] < server.job(job)["ended_at"]
    record = server.job(job)
    assert [attempt["end"] for attempt in record["attempts"]] == ["preempted", "succeeded"]
    assert server.steps(job) == list(range(1, STEADY["steps"] + 1)), "no step was done twice"
    whole(server, job)


def test_a_paused_job_outlives_its_server(tmp_path: Path, undisturbed: bytes) -> None:
    server = RealServer(tmp_path / "home")
    server.start()
    job = server.submit(STEADY)
    server.wait_for_step(job, 5)
    wish(server, job, paused=True)
    wait_for_state(server, job, "paused")
    server.kill()
    server.start()
    try:
        assert server.job(job)["state"] == "paused"
        wish(server, job, paused=False)
        assert pixels(server.file(job)) == undisturbed
        assert server.steps(job) == list(range(1, STEADY["steps"] + 1))
    finally:
        assert server.stop() == 0

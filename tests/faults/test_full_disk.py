"""Disks that are really full: small file systems of their own for the data folder's parts. Needs the right to mount."""

from __future__ import annotations

import base64
import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.acceptance.real_server import RealServer

from .mix import asked, mix, pixels
from .watching import leftovers

PARTS = {"": "24m", "artifacts": "1m", "uploads": "1m", "checkpoints": "4m"}
"""Each has its own space, so that each can be full alone. The first is the data folder, with the database and the
copies of converted weights, which leave it to the others."""


def mounted(folder: Path, size: str) -> bool:
    """Whether `folder` now is a file system of that size."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "safelight-test", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    home = tmp_path_factory.mktemp("full") / "home"
    with contextlib.ExitStack() as stack:
        for part, size in PARTS.items():
            if sys.platform != "linux" or not mounted(home / part, size):
                pytest.skip("file systems of a test's own can be mounted by root on Linux only")
            stack.callback(subprocess.run, ["umount", "-l", str(home / part)], check=True)
        yield stack.enter_context(RealServer(home))


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Not a byte is free in there, until the end."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        filler.unlink()


def hold(server: RealServer, job: str, seconds: float) -> dict[str, Any]:
    """The record after a while in which the job must not end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        record = server.job(job)
        assert record["state"] in ("queued", "running"), record
        time.sleep(0.1)
    return record


def test_artifacts_that_cannot_be_written_wait_for_space(server: RealServer) -> None:
    peace = pixels(server.file(server.submit(asked("exact", 1))))
    with filled(server.home / "artifacts"):
        job = server.submit(asked("exact", 2))
        record = hold(server, job, 4.0)
        assert {attempt["end"] for attempt in record["attempts"]} <= {"declined", None}
        assert any("No space left" in attempt["message"] for attempt in record["attempts"])
        assert leftovers(server.home / "artifacts") == [], "nothing half-written takes the last bytes"
        assert record["artifacts"] == []
    record = server.finished(job)
    assert record["state"] == "succeeded"
    assert np.array_equal(pixels(server.file(job)), peace)
    assert len(server.steps(job)) <= 16 + 1, "only the saving was done again"


def test_checkpoints_that_cannot_be_written_are_a_warning(server: RealServer) -> None:
    peace = pixels(server.file(server.submit(asked("exact", 1))))
    with filled(server.home / "checkpoints"):
        job = server.submit(asked("exact", 3))
        assert np.array_equal(pixels(server.file(job)), peace)
        warnings = [each["data"]["message"] for each in server.events(job) if each["kind"] == "warning"]
        assert warnings and all("No space left" in each for each in warnings)
        assert leftovers(server.home / "checkpoints") == []


def test_an_upload_that_cannot_be_kept_is_refused_with_the_way_out(server: RealServer) -> None:
    photo = base64.b64decode(mix()["shared transform"]["image"])
    with filled(server.home / "uploads"):
        answers = [
            server.http.post("/v1/uploads", content=photo, headers={"content-type": "image/png"}),
            server.http.post("/v1/jobs", json=asked("shared transform", 1)),
        ]
        for answer in answers:
            assert answer.status_code == 507 and answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"] == "5"
            assert answer.json()["kind"] == "disk_full" and "Free space" in answer.json()["hint"]
        assert leftovers(server.home / "uploads") == []
        assert server.finished(server.submit(steps=2))["state"] == "succeeded", "what needs no upload goes on"
    assert server.http.post("/v1/uploads", content=photo, headers={"content-type": "image/png"}).status_code == 201
    assert server.finished(server.submit(asked("shared transform", 2)))["state"] == "succeeded"


def test_a_database_that_cannot_grow_refuses_and_loses_nothing(server: RealServer) -> None:
    peace = pixels(server.file(server.submit(asked("exact", 1))))
    running = server.submit(asked("exact", 4), steps=16)
    waiting = [server.submit(asked("shared", 4)) for _ in range(2)]
    bulky = {**asked("shared", 5), "not_before": time.time() + 3600, "negative_prompt": "fog " * 4500}
    accepted: list[str] = []
    with filled(server.home):
        problems = []
        until = time.monotonic() + 60
        while len(problems) < 5 and time.monotonic() < until:
            answer = server.http.post("/v1/jobs", json=bulky)
            if answer.status_code == 202:
                accepted.append(answer.json()["id"])
            else:
                problems.append(answer)
                time.sleep(0.1)
        assert len(problems) == 5, "the database never was full"
        for answer in problems:
            assert answer.status_code in (503, 507), answer.text
            assert answer.headers["retry-after"] == "5"
            assert "ree" in answer.json()["hint"] and "space" in answer.json()["hint"], answer.json()
        assert server.http.get("/health").status_code == 200
        assert server.http.get("/v1/jobs").status_code == 200, "reading goes on"
    assert {server.job(job)["state"] for job in accepted} <= {"queued"}, "what was accepted is there"
    for job in [running, *waiting]:
        assert server.finished(job)["state"] == "succeeded", (server.job(job), server.log()[-5000:])
        events = server.events(job)
        assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert np.array_equal(pixels(server.file(running)), peace)
    with contextlib.closing(sqlite3.connect(server.home / "safelight.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"

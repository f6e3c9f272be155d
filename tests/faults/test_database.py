"""A database that another program holds, or that was damaged: waited for or told, and never pretended."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.acceptance.real_server import RealServer

from .mix import asked, pixels

BUSY_S = 5.0
"""How long the store waits for a database that is held (SqliteStore)."""

LEASE_S = 3.0
"""Of the servers here (RealServer)."""


@contextlib.contextmanager
def held(home: Path) -> Iterator[None]:
    """Another program writes into the database and does not come to an end."""
    with contextlib.closing(sqlite3.connect(home / "safelight.db", isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def whole(server: RealServer, job: str) -> dict[str, Any]:
    """The record of a job that succeeded with nothing missing and nothing doubled."""
    record = server.finished(job)
    assert record["state"] == "succeeded", (record, server.log()[-5000:])
    events = server.events(job)
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert len(record["artifacts"]) == record["resolved"]["batch_size"]
    return record


def test_a_database_held_for_a_moment_is_waited_for(server: RealServer) -> None:
    """For longer than a lease, whose renewal cannot be written down either: the worker speaks, so its job goes on."""
    running = server.submit(asked("exact", 31), steps=150, width=128, height=128)
    server.wait_for_step(running, 3)
    with held(server.home):
        began = time.monotonic()
        with httpx.Client(base_url=server.http.base_url) as late, contextlib.suppress(httpx.ReadTimeout):
            late.post("/v1/jobs", json=asked("shared", 32), timeout=LEASE_S + 0.7)  # its answer is not waited for
        assert LEASE_S < time.monotonic() - began < BUSY_S
    after = server.submit(asked("shared", 33))
    whole(server, after)
    assert [attempt["end"] for attempt in whole(server, running)["attempts"]] == ["succeeded"], "nobody was disturbed"
    qualities = [job["resolved"]["output"]["quality"] for job in server.http.get("/v1/jobs").json()["jobs"]]
    assert qualities.count(32) == 1, "the one that waited was accepted in the end"


@pytest.mark.slow
def test_a_database_held_for_long_is_told_and_nothing_is_lost(server: RealServer) -> None:
    peace = pixels(server.file(server.submit(asked("exact", 33))))
    running, waiting = server.submit(asked("exact", 34)), server.submit(asked("shared", 34))
    server.wait_for_step(running, 2)
    with held(server.home):
        answer = server.http.post("/v1/jobs", json=asked("shared", 35))
        assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
        assert answer.json()["kind"] == "store_unusable" and "Another program holds it" in answer.json()["hint"]
        assert server.http.get(f"/v1/jobs/{running}").status_code == 200, "reading goes on"
        assert server.http.get("/health").status_code == 200
    for job in (running, waiting):
        assert {attempt["end"] for attempt in whole(server, job)["attempts"]} <= {"succeeded", "killed", "expired"}
    assert np.array_equal(pixels(server.file(running)), peace)
    qualities = [job["resolved"]["output"]["quality"] for job in server.http.get("/v1/jobs").json()["jobs"]]
    assert qualities.count(35) == 0, "what was refused is not there"


def test_a_database_that_is_damaged_while_it_runs_is_told(tmp_path: Path) -> None:
    server = RealServer(tmp_path / "home")
    server.start()
    try:
        server.submit(steps=1)
        database = server.home / "safelight.db"
        with contextlib.closing(sqlite3.connect(database)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = database.stat().st_size
        with database.open("r+b") as file:  # the same file under the server's feet: all but the header's page
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))
        lines = len(server.log().splitlines())
        answers = []
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            answers.append(server.http.post("/v1/jobs", json=asked("shared", 1)))
            time.sleep(0.2)
        refused = [each for each in answers if each.status_code != 202]
        assert refused, "it pretends that all is well"
        for each in refused:
            assert each.status_code == 503 and each.json()["kind"] == "store_unusable"
            assert "malformed" in each.json()["detail"] and "Move it away" in each.json()["hint"]
        assert server.http.get("/health").status_code == 200
        written = server.log().splitlines()[lines:]
        assert any("malformed" in line for line in written)
        assert sum("could not be looked at" in line for line in written) < 6, "it does not turn in circles"
    finally:
        server.kill()
    with contextlib.suppress(AssertionError):  # it may say where it will be before it opens the database
        server.start()
    assert server.process is not None and server.process.wait(60) == 1, "it does not start on it"
    server.http.close()
    said = server.log().splitlines()[-1]
    assert "malformed" in said and "Move it away" in said and "Traceback" not in said

"""Real processes, really killed: what was answered is there afterwards."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from safelight.core.states import JobState
from safelight.jobs.records import Filter
from safelight.jobs.sqlite.store import SqliteStore

pytestmark = pytest.mark.anyio

ROUNDS = 6


ANSWERS = 20
"""Waited for before each kill, however slow the disk syncs."""


def killed_at_random(path: Path, seconds: random.Random) -> list[tuple[str, str]]:
    """Runs the accepting process on `path`, kills it; what it had said: (what, job id)."""
    command = [sys.executable, "-m", "tests.conformance.stores.accepting", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        first = b"".join(process.stdout.readline() for _ in range(ANSWERS))
        time.sleep(seconds.uniform(0.0, 0.4))
        process.kill()
        said = (first + process.stdout.read()).decode()
    lines = [line.split() for line in said.splitlines(keepends=True) if line.endswith("\n")]
    return [(what, job_id) for what, job_id in lines]


async def test_nothing_accepted_is_lost_by_sigkill(tmp_path: Path) -> None:
    path, seconds = tmp_path / "jobs.sqlite3", random.Random(7)
    said: list[tuple[str, str]] = []
    for _ in range(ROUNDS):
        said += killed_at_random(path, seconds)
        store = SqliteStore(path)
        await store.open()
        jobs = {job.id: job for job in await store.jobs(Filter(limit=1_000_000))}
        for what, job_id in said:
            assert job_id in jobs
            assert what == "submitted" or jobs[job_id].state is JobState.SUCCEEDED
        counts = await store.counts()
        assert sum(counts.values()) == len(jobs)
        assert all(counts[state] == sum(job.state is state for job in jobs.values()) for state in JobState)
        assert {job.id for job in await store.expired()} == {
            job.id for job in jobs.values() if job.state is JobState.RUNNING
        }
        for job in list(jobs.values())[:50]:
            numbers = [event.number for event in await store.events(job.id)]
            assert numbers == list(range(1, len(numbers) + 1))
            assert numbers
        told_of = {delivery.event.job_id for delivery in await store.undelivered()}
        assert told_of == {job.id for job in jobs.values() if job.state is JobState.SUCCEEDED}
        await store.close()
    assert len(said) >= ANSWERS * ROUNDS

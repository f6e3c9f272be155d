"""Many jobs from many clients: nothing is lost, and memory stands still. SOAK_JOBS chooses how many."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.acceptance.real_server import RealServer

from .soak import ENOUGH, Figures, Soak, soak


def test_thirty_jobs_of_ten_clients(server: RealServer) -> None:
    figures = Soak(server, jobs=30, clients=10, seed=1).run()
    assert figures.wrong == [] and len(figures.latencies) == 30
    assert "| server |" in figures.table() and "| worker |" in figures.table()


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_thousand_jobs_leave_memory_where_it_was(tmp_path: Path) -> None:
    figures = soak(tmp_path, int(os.environ.get("SOAK_JOBS", "2000")), 20, 1)
    assert figures.wrong == [], "a broken promise, or memory that grows"


@pytest.mark.parametrize(
    ("jobs", "grows", "who"), [(ENOUGH, 0.05, ["worker"]), (ENOUGH, 0.015, []), (ENOUGH - 1, 0.05, [])]
)
def test_a_soak_sees_a_leak(jobs: int, grows: float, who: list[str]) -> None:
    """Of the worker alone, which grows over the second half of the jobs."""
    shares = [min(1.0, max(0.0, done / jobs - 0.6) / 0.3) for done in range(jobs)]
    memory = [(done, float(done), 1 << 28, round((1 << 29) * (1 + grows * share))) for done, share in enumerate(shares)]
    figures = Figures(jobs, memory=memory)
    assert [said.split()[1] for said in figures.leaks()] == who


def test_a_soak_that_measured_nothing_says_so() -> None:
    assert len(Figures(ENOUGH).leaks()) == 2

"""Many jobs from many clients: nothing is lost, and memory stands still. SOAK_JOBS chooses how many."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.acceptance.real_server import RealServer

from .soak import Soak, soak

MAX_GROWTH = 0.02


def test_sixty_jobs_of_twenty_clients(server: RealServer) -> None:
    figures = Soak(server, jobs=60, clients=20, seed=1).run()
    assert figures.wrong == [] and len(figures.latencies) == 60
    assert "| server |" in figures.table() and "| worker |" in figures.table()


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_thousand_jobs_leave_memory_where_it_was(tmp_path: Path) -> None:
    figures = soak(tmp_path, int(os.environ.get("SOAK_JOBS", "2000")), 20, 1)
    assert figures.wrong == []
    assert figures.growth(2) < MAX_GROWTH, "the server leaks"
    assert figures.growth(3) < MAX_GROWTH, "the worker leaks"

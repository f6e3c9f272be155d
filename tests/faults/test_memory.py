"""Memory that is too small, for real: a worker under a hard cap that the kernel keeps (RLIMIT_DATA)."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.acceptance.real_server import RealServer
from tests.faults.mix import mix

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a process to RLIMIT_DATA")

CAP = {"devices.memory_gib": 8, "devices.memory_hard_gib": 0.35, "devices.dtype": "bf16", "storage.converted_gib": 0}
"""A worker that believes in 8 GiB and is given 358 MiB: every estimate is wrong, and the kernel says so."""

BUDGET = {"devices.memory_gib": 0.35, "devices.dtype": "bf16", "storage.converted_gib": 0}
"""A worker that knows its 358 MiB and plans with them; the kernel stops it a quarter above."""

PHOTO: dict[str, Any] = {**mix()["exact transform"], "deterministic": False, "strength": 0.0, "steps": 1}
FITS: dict[str, Any] = {"steps": 2}
CLIMBS = {**PHOTO, "width": 1024, "height": 1024}
NEVER = {**PHOTO, "width": 3984, "height": 3984}


def rungs(events: list[dict[str, Any]]) -> str:
    """Which rungs a job went down, as it was told."""
    said = [event["data"]["message"] for event in events if event["kind"] == "warning"]
    return "; ".join(sorted({each.split(" in ", 1)[1].rstrip(".") for each in said if "Memory is short" in each}))


def among(home: Path, count: int, given: dict[str, Any]) -> None:
    """`count` jobs that fit among `count` that do not, on a worker with the settings `given`."""
    setting = "devices.memory_hard_gib" if "devices.memory_hard_gib" in given else "devices.memory_gib"
    with RealServer(home, **given) as server:
        worker = server.worker_pid()
        fitting = [server.submit(**FITS, seed=1)]
        server.finished(fitting[0])
        before = psutil.Process(worker).memory_info().rss
        unfit = []
        for index in range(count):
            unfit.append((index % 4 == 1, server.submit(CLIMBS if index % 4 == 1 else NEVER, seed=index)))
            fitting.append(server.submit(**FITS, seed=index))
        table: Counter[tuple[str, str, str]] = Counter()
        for job in fitting:
            table["fits", server.finished(job)["state"], rungs(server.events(job))] += 1
        for climbs, job in unfit:
            record = server.finished(job)
            how = rungs(server.events(job)) if record["state"] == "succeeded" else record["failure"]["kind"]
            table["climbs" if climbs else "never fits", record["state"], how] += 1
            if not climbs:
                assert "3984 x 3984" in record["failure"]["message"] and "MiB" in record["failure"]["message"]
                assert setting in record["failure"]["hint"]
                assert "ask for at most" in record["failure"]["hint"]
        print()
        for (kind, state, how), jobs in sorted(table.items()):
            print(f"{jobs:5} {kind:<11} {state:<10} {how}")
        after = psutil.Process(worker).memory_info().rss
        print(f"      resident before {before >> 20} MiB, after {after >> 20} MiB")
        assert server.worker_pid() == worker, "the worker lives"
        assert after < before + (100 << 20)
        states = Counter((kind, state) for kind, state, _ in table.elements())
        climbing = count // 4
        expected = {("fits", "succeeded"): count + 1, ("climbs", "succeeded"): climbing}
        expected["never fits", "failed"] = count - climbing
        assert states == expected, server.log()
        assert all("tiles of " in how for kind, _, how in table if kind == "climbs")


def test_jobs_that_do_not_fit_harm_none_of_those_that_do(tmp_path: Path) -> None:
    among(tmp_path / "home", 8, CAP)


@pytest.mark.slow
def test_a_worker_is_healthy_after_a_hundred_that_ran_out_in_a_row(tmp_path: Path) -> None:
    with RealServer(tmp_path / "home", **CAP) as server:
        worker = server.worker_pid()
        assert server.finished(server.submit(**FITS, seed=1))["state"] == "succeeded"
        resident: list[int] = []
        for seed in range(100):
            record = server.finished(server.submit(NEVER, seed=seed))
            assert (record["state"], record["failure"]["kind"]) == ("failed", "out_of_memory"), record
            assert server.worker_pid() == worker, server.log()
            resident.append(psutil.Process(worker).memory_info().rss)
        assert server.finished(server.submit(**FITS, seed=2))["state"] == "succeeded", server.log()
        assert server.worker_pid() == worker, "the worker lives"
        early, late = max(resident[:10]), max(resident[-10:])
        assert late < early + (20 << 20), f"{early >> 20} MiB after ten, {late >> 20} after a hundred"


@pytest.mark.slow
def test_a_hundred_that_do_not_fit_among_a_hundred_that_do(tmp_path: Path) -> None:
    among(tmp_path / "home", 100, BUDGET)

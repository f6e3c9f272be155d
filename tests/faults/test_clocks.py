"""The wall clock jumps under a running server: leases, heartbeats and hangs count monotonic time and do not notice."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.acceptance.real_server import RealServer

from .mix import asked, pixels

HERE = Path(__file__).parent
DAY_S = 86_400

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="a C compiler and LD_PRELOAD shift the clock"
)


@pytest.fixture
def shift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that says by how many seconds the clocks of processes started from here are wrong."""
    library, said = tmp_path / "clock_shift.so", tmp_path / "shift"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "clock_shift.c"], check=True)
    said.write_bytes(struct.pack("l", 0))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_SHIFT", str(said))
    return said


def jump(shift: Path, seconds: int) -> None:
    with shift.open("r+b") as file:
        file.write(struct.pack("l", seconds))


@pytest.mark.slow
def test_jumps_of_the_wall_clock_cost_nothing(tmp_path: Path, shift: Path) -> None:
    """A day ahead, two days back, and right again, while one job runs and others wait, for an hour at most."""
    with RealServer(tmp_path / "home", **{"jobs.lease_s": 2.0, "jobs.heartbeat_s": 0.2, "jobs.max_open": 1}) as server:
        body = {**asked("exact", 1), "steps": 120}
        peace = pixels(server.file(server.submit(body)))
        running = server.submit({**body, "output": {"quality": 2}})
        patience = {"steps": 40, "deadline_s": 3600}
        waiting = [server.submit({**asked("shared", 2 + number), **patience}) for number in range(2)]
        for step, seconds in ((10, DAY_S), (45, -2 * DAY_S), (80, 0)):
            server.wait_for_step(running, step)
            jump(shift, seconds)
        records = [server.finished(job) for job in (running, *waiting)]
        for record in records:
            assert record["state"] == "succeeded", (record["failure"], server.log())
            assert [attempt["end"] for attempt in record["attempts"]] == ["succeeded"], record["attempts"]
            events = server.events(record["id"])
            assert [event["number"] for event in events] == list(range(1, len(events) + 1))
        jumped = [event["at"] - time.time() for event in server.events(running)]
        assert max(jumped) > DAY_S / 2 and min(jumped) < -DAY_S, "the clock did jump"
        assert np.array_equal(pixels(server.file(running)), peace)

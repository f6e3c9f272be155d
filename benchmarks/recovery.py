"""How soon a job goes on after SIGKILL of its worker, and of the server with it."""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Report, Row
from benchmarks.service import Service, service

TIMES = 5
BODY = {"steps": 150, "batch_size": 4}


def run() -> Report:
    """Medians of five of each, with the checkpoints and leases of the default settings."""
    with tempfile.TemporaryDirectory() as folder, service(Path(folder) / "home") as made:
        made.run({"steps": 1})
        rows = [
            _row("worker killed, to the job's next step", [_worker_killed(made) for _ in range(TIMES)]),
            _row("server killed, to the job's next step", [_server_killed(made) for _ in range(TIMES)]),
        ]
    return Report("recovery", rows)


def _worker_killed(made: Service) -> float:
    pid = made.worker_pid()
    job = _under_way(made)
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    return _again(made, job, began)


def _server_killed(made: Service) -> float:
    """The server is started again at once: most of the time is the new worker's imports."""
    made.worker_pid()
    job = _under_way(made)
    began = time.perf_counter()
    made.kill()
    made.start()
    return _again(made, job, began)


def _under_way(made: Service) -> str:
    job = made.submit(BODY)
    made.wait_for_step(job, attempt=1)
    return job


def _again(made: Service, job: str, began: float) -> float:
    made.wait_for_step(job, attempt=2)
    took = time.perf_counter() - began
    made.http.post(f"/v1/jobs/{job}/cancel").raise_for_status()
    while made.http.get(f"/v1/jobs/{job}").json()["state"] == "running":
        time.sleep(0.02)
    return took


def _row(name: str, took: list[float]) -> Row:
    return Row(name, statistics.median(took), "s", note=f"{min(took):.2f} to {max(took):.2f} s")

"""From the start of the server's process to its first accepted job: a new data folder each time."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.measure import PAIRS, Report, Row
from benchmarks.service import Service

AT_MOST_S = 1.5


def run() -> Report:
    """The median of seven starts, after one that warms the disk's cache."""
    listening, accepted = [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(PAIRS + 1):
            made = Service(Path(folder) / f"home{turn}")
            try:
                began = time.perf_counter()
                listening.append(made.start())
                made.submit()
                accepted.append(time.perf_counter() - began)
            finally:
                made.kill()
    note = f"listening after {statistics.median(listening[1:]):.2f} s; "
    note += f"{min(accepted[1:]):.2f} to {max(accepted[1:]):.2f} s"
    name = "process started to first job accepted (202)"
    return Report("startup", [Row(name, statistics.median(accepted[1:]), "s", AT_MOST_S, note=note)])

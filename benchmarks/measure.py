"""Interleaved pairs and their medians: the only way a ratio is claimed."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAIRS = 7


@dataclass(frozen=True)
class Ratio:
    """Seconds of two ways of doing the same, medians over pairs, and the median of the pairs' ratios (ours/other)."""

    name: str
    ours_s: float
    other_s: float
    ratio: float
    lowest: float
    highest: float

    def row(self) -> str:
        """A line of a Markdown table."""
        spread = f"{self.lowest:.2f}-{self.highest:.2f}"
        return f"| {self.name} | {self.ours_s:.3f} | {self.other_s:.3f} | {self.ratio:.3f} | {spread} |"


HEAD = "| what | ours s | other s | ratio | spread |\n|---|---|---|---|---|"


def pairs(name: str, ours: Callable[[], object], other: Callable[[], object], count: int = PAIRS) -> Ratio:
    """Time both in turn, `count` times after a warm-up of each."""
    ours()
    other()
    measured = []
    for turn in range(count):
        first, second = (ours, other) if turn % 2 == 0 else (other, ours)
        one, two = _seconds(first), _seconds(second)
        measured.append((one, two) if turn % 2 == 0 else (two, one))
    ratios = [mine / theirs for mine, theirs in measured]
    return Ratio(
        name,
        statistics.median(mine for mine, _ in measured),
        statistics.median(theirs for _, theirs in measured),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
    )


def keep(name: str, facts: Mapping[str, Any]) -> Path:
    """Write what was measured as JSON under benchmarks/results, with the machine it was measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    path.write_text(json.dumps({"machine": machine, **facts}, indent=1) + "\n", encoding="utf-8")
    return path


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began

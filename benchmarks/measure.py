"""What a benchmark says: rows with targets, interleaved pairs, and the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).parent / "results"
PAIRS = 7


@dataclass(frozen=True)
class Row:
    """One figure. `target`: what it may be at most, or must be at least; None where nothing was promised.

    `note`: what else was measured on the way, for whoever reads the table.
    """

    name: str
    measured: float
    unit: str
    target: float | None = None
    kind: Literal["most", "least"] = "most"
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure is as good as its target."""
        if self.target is None:
            return True
        return self.measured <= self.target if self.kind == "most" else self.measured >= self.target

    def line(self) -> str:
        """The row in a Markdown table."""
        verdict = "" if self.target is None else "met" if self.met else "**missed**"
        sign = {"most": "≤", "least": "≥"}[self.kind]
        target = "" if self.target is None else f"{sign} {_number(self.target)} {self.unit}".rstrip()
        return f"| {self.name} | {_number(self.measured)} {self.unit} | {target} | {verdict} | {self.note} |"


HEAD = "| what | measured | target | | details |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Pairs:
    """Seconds of two ways of doing the same, in interleaved pairs. Their medians, and the median of the ratios."""

    ours: tuple[float, ...]
    other: tuple[float, ...]

    @property
    def ours_s(self) -> float:
        """Median seconds of ours."""
        return statistics.median(self.ours)

    @property
    def other_s(self) -> float:
        """Median seconds of the other."""
        return statistics.median(self.other)

    @property
    def ratios(self) -> list[float]:
        """Ours to the other, pair by pair."""
        return [mine / theirs for mine, theirs in zip(self.ours, self.other, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def differences(self) -> list[float]:
        """Ours less the other, pair by pair, in seconds."""
        return [mine - theirs for mine, theirs in zip(self.ours, self.other, strict=True)]

    @property
    def note(self) -> str:
        """The medians and the spread, in words."""
        return f"{self.ours_s:.3f} s against {self.other_s:.3f} s; {min(self.ratios):.2f} to {max(self.ratios):.2f}"


def pairs(ours: Callable[[], object], other: Callable[[], object], count: int = PAIRS) -> Pairs:
    """Time both in turn, `count` times after a warm-up of each; who goes first alternates."""
    ours()
    other()
    measured = []
    for turn in range(count):
        if turn % 2 == 0:
            one, two = seconds(ours), seconds(other)
        else:
            two, one = seconds(other), seconds(ours)
        measured.append((one, two))
    return Pairs(tuple(one for one, _ in measured), tuple(two for _, two in measured))


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median_seconds(work: Callable[[], object], count: int = PAIRS) -> float:
    """The median of `count` times, after one to warm up."""
    work()
    return statistics.median(seconds(work) for _ in range(count))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


@dataclass(frozen=True)
class Report:
    """A benchmark's rows, and what they were measured with besides the machine (dtype, threads)."""

    name: str
    rows: list[Row]
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def table(self) -> str:
        """As Markdown."""
        return "\n".join([HEAD, *(row.line() for row in self.rows)])

    def keep(self) -> None:
        """Write it as JSON beside the others."""
        RESULTS.mkdir(exist_ok=True)
        rows = [asdict(row) | {"met": row.met} for row in self.rows]
        kept = {"machine": machine(), "facts": dict(self.facts), "seconds": round(self.seconds, 1), "rows": rows}
        (RESULTS / f"{self.name}.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")


def machine() -> dict[str, Any]:
    """What the figures depend on; no names of hosts or people."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
        if hasattr(os, "sysconf")
        else None,
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "diffusers", "transformers")},
    }


def kept_table(names: Sequence[str]) -> str:
    """All kept results as one Markdown page, in the order of `names`."""
    parts = ["# Benchmarks", "", "Written by `make bench`; do not edit."]
    for name in names:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        kept = json.loads(path.read_text("utf-8"))
        rows = [Row(**{key: value for key, value in row.items() if key != "met"}) for row in kept["rows"]]
        facts = ", ".join(f"{key} {value}" for key, value in (kept["machine"] | kept["facts"]).items())
        parts += ["", f"## {name}", "", f"{facts}; took {kept['seconds']:g} s.", "", Report(name, rows).table()]
    return "\n".join(parts) + "\n"


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

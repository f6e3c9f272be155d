"""What a server adds to a job: the same requests through HTTP, queue, worker and store, and on the bare engine."""

from __future__ import annotations

import statistics
import tempfile
from itertools import count
from pathlib import Path

from benchmarks.measure import PAIRS, Report, Row, pairs
from benchmarks.service import PROMPT, service
from benchmarks.studio import Body, studio

AT_MOST_MS = 15.0
JOBS = 3
"""Jobs of one measurement, one after another."""

BODY: Body = {"steps": 8, "width": 128, "height": 128}


def run() -> Report:
    """Interleaved; the median of the differences, a job."""
    numbers = count(1)
    prompt = PROMPT["prompt"]

    def bodies() -> list[Body]:
        return [{**BODY, "seed": number, "prompt": f"{prompt}, {number}"} for number in _next(numbers, JOBS)]

    with tempfile.TemporaryDirectory() as folder, studio(Path(folder)) as bare:
        with service(Path(folder) / "home") as made:

            def served() -> None:
                for body in bodies():
                    made.run(body)

            measured = pairs(served, lambda: bare.run(*([body] for body in bodies())), 2 * PAIRS)
        facts = bare.facts
    extra = [1000 * difference / JOBS for difference in measured.differences]
    note = f"{1000 * measured.ours_s / JOBS:.0f} ms against {1000 * measured.other_s / JOBS:.0f} ms a job"
    row = Row("server / bare engine: added to a job", statistics.median(extra), "ms", AT_MOST_MS, note=note)
    return Report("overhead", [row], facts)


def _next(numbers: count[int], many: int) -> list[int]:
    return [next(numbers) for _ in range(many)]

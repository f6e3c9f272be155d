"""`make test`: every check in order, all of them even where one fails, and one closing line that counts them.

The tests that may share a machine run side by side; the acceptance tests, which measure time and kill processes, run
alone. Coverage is gathered over all of them and over the workers they start.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "build" / "reports"
MIN_COVERAGE = 95
BIN = Path(sys.executable).parent
COVERED = [sys.executable, "-m", "coverage", "run", "-m", "pytest", "-q", "-m", "not slow"]
BESIDE = ("tests/house", "tests/unit", "tests/conformance", "tests/parity")
ALONE = ("tests/acceptance", "tests/faults")


@dataclass(frozen=True)
class Step:
    """One command of the suite. `tests`: it is pytest's, and its report counts; else the command is one check."""

    name: str
    command: tuple[str | Path, ...]
    tests: bool = False
    environ: dict[str, str] = field(default_factory=dict)


def pytest_step(name: str, folders: tuple[str, ...], *options: str, **environ: str) -> Step:
    """A run of pytest over the folders that are there."""
    there = [each for each in folders if any((ROOT / each).rglob("test_*.py"))]
    report = f"--junitxml={REPORTS / name}.xml"
    return Step(name, (*COVERED, report, *options, *there), True, environ)


STEPS = (
    Step("ruff", (BIN / "ruff", "check", ".")),
    Step("format", (BIN / "ruff", "format", "--check", ".")),
    Step("mypy", (BIN / "mypy",)),
    Step("windows", (BIN / "mypy", "--platform", "win32", "--cache-dir", ".mypy_cache/windows")),
    Step("imports", (BIN / "lint-imports",)),
    pytest_step("beside", BESIDE, "-n", "2", "--dist", "worksteal", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1"),
    pytest_step("alone", ALONE),
    Step("coverage", (sys.executable, "-m", "coverage", "report", f"--fail-under={MIN_COVERAGE}")),
)


def run(step: Step) -> Counter[str]:
    """Carry out a step: how many checks passed, failed, were skipped."""
    print(f"\n--- {step.name}: {' '.join(str(each) for each in step.command)}", flush=True)
    report = REPORTS / f"{step.name}.xml"
    report.unlink(missing_ok=True)
    code = subprocess.run(step.command, cwd=ROOT, env=os.environ | step.environ, check=False).returncode
    if not step.tests:
        return Counter(passed=1) if code == 0 else Counter(failed=1)
    counts = counted(report)
    if code != 0 and not counts["failed"]:  # pytest itself ended badly, or there is no report
        counts["failed"] += 1
    return counts


def counted(report: Path) -> Counter[str]:
    """The counts of a JUnit report; empty where there is none."""
    counts: Counter[str] = Counter()
    if not report.is_file():
        return counts
    for suite in ET.parse(report).iter("testsuite"):
        total, failed, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "skipped"))
        failed += int(suite.get("errors", 0))
        counts += Counter(passed=total - failed - skipped, failed=failed, skipped=skipped)
    return counts


def closing_line(counts: Counter[str], seconds: float) -> str:
    """What pytest would say of all of it."""
    said = ", ".join(f"{counts[name]} {name}" for name in ("failed", "passed", "skipped") if counts[name])
    minutes, rest = divmod(int(seconds), 60)
    return f" {said} in {seconds:.2f}s ({minutes // 60}:{minutes % 60:02d}:{rest:02d}) ".center(100, "=")


def main() -> int:
    """Run the steps; the last line counts them, and the exit status is 0 where all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[step.name for step in STEPS], help="these steps alone")
    wanted = parser.parse_args().only
    started = time.monotonic()
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    for old in ROOT.glob(".coverage*"):
        old.unlink()
    counts: Counter[str] = Counter()
    failed = []
    for step in STEPS:
        if wanted and step.name not in wanted:
            continue
        if step.name == "coverage":
            subprocess.run([sys.executable, "-m", "coverage", "combine", "-q"], cwd=ROOT, check=False)
        result = run(step)
        counts += result
        failed += [step.name] if result["failed"] else []
    if failed:
        print(f"\nFailed: {', '.join(failed)}")
    print(closing_line(counts, time.monotonic() - started), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

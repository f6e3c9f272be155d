"""`make bench`: every benchmark, or those that are named, each in a fresh process.

    python -m benchmarks [--strict] [NAME ...]

Prints a Markdown table each, keeps them as JSON and as one page under benchmarks/results. With `--strict` the exit code
says whether a target was missed (2); a benchmark that could not run exits 1 either way.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time

from benchmarks.measure import RESULTS, Report, kept_table

NAMES = {
    "startup": "from the start of the server's process to its first accepted job",
    "recovery": "from the death of a worker or the server to the job's next step",
    "submissions": "accepted jobs a second from 32 clients, each committed",
    "listeners": "2,000 event streams at once; /health while a worker is busy",
    "overhead": "what the server adds to a job",
    "engine": "a picture, against diffusers",
    "batching": "requests side by side, against one by one and against bare passes",
    "loading": "a 2 GB checkpoint, and its LoRAs",
}
MISSED = 2


def main() -> int:
    """Run what is asked for."""
    listed = "\n".join(f"  {name:12} {what}" for name, what in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=f"{__doc__}\n{listed}", formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; default: all")
    parser.add_argument("--strict", action="store_true", help="exit 2 where a target was missed")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in this process
    said = parser.parse_args()
    if unknown := [name for name in said.names if name not in NAMES]:
        parser.error(f"There is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}.")
    if said.here:
        return _here(said.names[0])
    names = said.names or list(NAMES)
    failed = [
        name
        for name in names
        if subprocess.run([sys.executable, "-m", "benchmarks", "--here", name], check=False).returncode
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "README.md").write_text(kept_table(list(NAMES)), "utf-8")
    if failed:
        sys.stderr.write(f"Could not run: {', '.join(failed)}.\n")
        return 1
    missed = sum(_missed(name) for name in names)
    print(f"{missed} targets missed." if missed else "All targets met.")
    return MISSED if missed and said.strict else 0


def _here(name: str) -> int:
    """One benchmark, in this process."""
    began = time.monotonic()
    report: Report = importlib.import_module(f"benchmarks.{name}").run()
    report = Report(name, report.rows, report.facts, time.monotonic() - began)
    print(f"\n## {name}: {NAMES[name]}\n\n{report.table()}\n", flush=True)
    report.keep()
    return 0


def _missed(name: str) -> int:
    return sum(not row["met"] for row in json.loads((RESULTS / f"{name}.json").read_text("utf-8"))["rows"])


if __name__ == "__main__":
    sys.exit(main())

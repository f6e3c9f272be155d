"""Rounds of SIGKILL: a real server, the bundled model, a handful of mixed jobs, a fault; then every promise is checked.

    python -m tests.faults.rounds --rounds 200 --seed 7

One data folder serves all rounds, as it would in life. `mid-save` and `mid-checkpoint` wait for the birth of the
temporary file and strike then; the aim was true where a half-made file was left, which is looked at afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from tests.acceptance.real_server import RealServer

from .following import Follower
from .mix import asked, mix, pixels
from .verdict import judge
from .watching import Watch, leftovers

REPORTS = Path(__file__).resolve().parents[2] / "build" / "reports"
PATIENCE_S = 90.0


class Fault(StrEnum):
    """Who is killed, and when."""

    WORKER = "worker killed"
    SERVER = "server killed"
    BOTH = "both killed"
    SAVE = "killed mid-save"
    CHECKPOINT = "killed mid-checkpoint"


@dataclass
class Round:
    """One round. Counts are over its jobs; see verdict.Verdict. `wrong`: every broken promise, in words.

    strikes: when somebody was killed. hit: those that interrupted a job. aimed: whether a half-made file was left
    by an aimed strike; None where none was aimed, or where it never came to it. connections: over which the
    clients read their jobs' streams, one at least for each.
    """

    number: int
    fault: Fault
    jobs: list[str] = field(default_factory=list)
    strikes: list[float] = field(default_factory=list)
    hit: set[float] = field(default_factory=set)
    aimed: bool | None = None
    interrupted: int = 0
    resumed: int = 0
    redone: int = 0
    lost_s: float = 0.0
    connections: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Campaign:
    """A server that is struck round after round. `interval_s`: between checkpoints."""

    def __init__(self, folder: Path, seed: int, interval_s: float = 0.1) -> None:
        self.server = RealServer(folder / "home", **{"jobs.checkpoint_interval_s": interval_s})
        self.rounds: list[Round] = []
        self._random = random.Random(seed)
        self._references: dict[str, list[NDArray[np.uint8]]] = {}
        self._sequences: list[int] = []
        self._pictures = 0
        self._half_made: set[Path] = set()

    def run(self, faults: Sequence[Fault]) -> list[Round]:
        """Draw everything in peace, then strike, a round a fault, then look at the whole folder."""
        self.server.start()
        try:
            for name in mix():
                job = self.server.submit(asked(name, 100))
                self.server.finished(job)
                count = mix()[name].get("batch_size", 1)
                self._references[name] = [pixels(self.server.file(job, index)) for index in range(count)]
            for number, fault in enumerate(faults):
                self.rounds.append(self._round(number, fault))
                sys.stdout.write(f"{self._told(self.rounds[-1])}\n")
                sys.stdout.flush()
            self.rounds[-1].wrong += self._at_the_end()
        finally:
            self.server.kill()
        return self.rounds

    def _round(self, number: int, fault: Fault) -> Round:
        began = time.monotonic()
        names = self._random.sample(list(mix()), self._random.randint(3, 5))
        this = Round(number, fault, names)
        jobs = {f"round-{number}-{name.replace(' ', '-')}": name for name in names}
        pauses = [self._random.uniform(0, 0.2) for _ in jobs]
        self.server.worker_pid()

        def hand_in() -> None:
            for (job, name), pause in zip(jobs.items(), pauses, strict=True):
                self.server.accepted(job, asked(name, 1 + number % 99))
                time.sleep(pause)

        clients = threading.Thread(target=hand_in)
        with contextlib.ExitStack() as following:
            followers = {job: following.enter_context(Follower(self.server.home, job, PATIENCE_S)) for job in jobs}
            if fault in (Fault.SAVE, Fault.CHECKPOINT):
                self._strike_at_the_moment(this, clients, jobs)
            else:
                clients.start()
                self._strike(this)
            clients.join()
            for job in jobs:
                self.server.finished(job)
        for job, follower in followers.items():
            this.connections += follower.connections
            this.wrong += [f"{job}: {each}" for each in follower.differs(self.server.events(job))]
        self._look_for_half_made(this)
        for job, name in jobs.items():
            self._judge(this, job, name)
        this.seconds = time.monotonic() - began
        return this

    # -- striking

    def _strike(self, this: Round) -> None:
        """At random moments. A worker is killed up to three times, a server sometimes again while it comes up."""
        again = self._random.choice((1, 2, 3) if this.fault is Fault.WORKER else (1, 1, 1, 2))
        for _ in range(again):
            time.sleep(self._random.uniform(0.05, 1.2))
            worker = self._worker() if this.fault is not Fault.SERVER else 0
            this.strikes.append(time.time())
            if this.fault is Fault.WORKER:
                _end(worker)
                continue
            both: list[Callable[[], None]] = [lambda: _end(worker), self.server.kill]  # noqa: B023 called in this turn
            if self._random.random() < 0.5:
                both.reverse()
            for kill in both:
                kill()
            self.server.start()

    def _strike_at_the_moment(self, this: Round, clients: threading.Thread, jobs: dict[str, str]) -> None:
        """When the nth temporary file is born: the worker that writes it, or worker and server."""
        saving, both = this.fault is Fault.SAVE, self._random.random() < 0.5
        folder = self.server.home / ("artifacts" if saving else "checkpoints")
        nth = self._random.randint(1, 4 if saving else 12)
        process, worker = self.server.process, self.server.worker_pid()
        assert process is not None

        def strike() -> None:
            _end(worker)
            if both:
                process.kill()

        with Watch(folder, strike, nth, self._random.choice((0.0, 0.0, 0.0005))) as watch:
            clients.start()
            until = time.monotonic() + PATIENCE_S
            while watch.struck_at is None and not self._all_over(jobs) and time.monotonic() < until:
                time.sleep(0.02)
        if watch.struck_at is None:
            return
        this.strikes.append(watch.struck_at)
        if both:
            self.server.kill()
            _wait_for_end(worker)
            self._look_for_half_made(this)  # the next server sweeps
            self.server.start()

    def _worker(self) -> int:
        """The worker's pid, 0 where there is none just now."""
        with contextlib.suppress(httpx.TransportError):
            return max(worker["pid"] for worker in self.server.http.get("/v1/system").json()["workers"])
        return 0

    def _all_over(self, jobs: dict[str, str]) -> bool:
        try:
            answers = [self.server.http.get(f"/v1/jobs/{job}") for job in jobs]
        except httpx.TransportError:
            return False
        return all(a.status_code == 200 and a.json()["state"] in ("succeeded", "failed", "cancelled") for a in answers)

    # -- looking

    def _look_for_half_made(self, this: Round) -> None:
        """Whether the aimed strike left something half-made. Nobody writes now."""
        if this.fault not in (Fault.SAVE, Fault.CHECKPOINT) or not this.strikes or this.aimed:
            return
        found = set(leftovers(self.server.home / ("artifacts" if this.fault is Fault.SAVE else "checkpoints")))
        this.aimed = bool(found - self._half_made)
        self._half_made = found

    def _judge(self, this: Round, job: str, name: str) -> None:
        verdict = judge(self.server, job, self._references[name], name.startswith("exact"), this.strikes)
        this.wrong += [f"{job}: {each}" for each in verdict.wrong]
        this.interrupted += verdict.interrupted
        this.resumed += verdict.resumed
        this.redone += verdict.redone
        this.lost_s = max(this.lost_s, verdict.lost_s)
        self._sequences += verdict.sequences
        self._pictures += len(self._references[name])
        this.hit |= {
            strike
            for strike in this.strikes
            for attempt in self.server.job(job)["attempts"]
            if attempt["end"] != "succeeded" and attempt["started_at"] <= strike <= attempt["ended_at"]
        }

    def _at_the_end(self) -> list[str]:
        """Restarted once more and tidied, the folder holds what its rows say, and nothing else."""
        wrong = []
        if len(set(self._sequences)) != len(self._sequences):
            wrong.append("two events have one sequence")
        if (code := self.server.stop()) != 0:
            wrong.append(f"the server ended with {code}")
        with contextlib.closing(sqlite3.connect(self.server.home / "safelight.db")) as database:
            if (said := database.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                wrong.append(f"the database says {said}")
        self.server.start()
        artifacts, page = [], self.server.http.get("/v1/artifacts", params={"limit": 200}).json()
        while True:
            artifacts += page["artifacts"]
            if page["next"] is None:
                break
            page = self.server.http.get("/v1/artifacts", params={"limit": 200, "before": page["next"]}).json()
        expected = self._pictures + sum(len(each) for each in self._references.values())
        if len(artifacts) != expected:
            wrong.append(f"there are {len(artifacts)} rows of artifacts for {expected} pictures")
        home = self.server.home
        there = {path.name for path in (home / "artifacts").glob("??/*")}
        if missing := {each["sha256"] for each in artifacts} - there:
            wrong.append(f"rows without files: {sorted(missing)}")
        until = time.monotonic() + PATIENCE_S
        while any((home / "checkpoints").iterdir()) and time.monotonic() < until:
            time.sleep(0.05)
        if left := leftovers(home) + list((home / "checkpoints").iterdir()):
            wrong.append(f"after the tidying there are {[str(path.relative_to(home)) for path in left]}")
        return wrong

    def _told(self, this: Round) -> str:
        words = f"round {this.number}: {this.fault}, {len(this.jobs)} jobs, {len(this.strikes)} strikes, "
        words += f"{this.interrupted} attempts interrupted, {this.seconds:.1f} s"
        return words + "".join(f"\n  WRONG {each}" for each in this.wrong)


def _end(pid: int) -> None:
    """SIGKILL, where the process is still there."""
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _wait_for_end(pid: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.01)


def table(rounds: list[Round], seed: int) -> str:
    """The figures by kind of fault, in Markdown."""
    lines = [
        f"{len(rounds)} rounds, seed {seed}, {sum(each.seconds for each in rounds):.0f} s.",
        "",
        "| fault | rounds | jobs | kills | kills that hit a job in its middle | aim was true | attempts interrupted "
        "| gone on from a checkpoint | steps done twice | most work lost in s | connections of the jobs' streams "
        "| broken promises |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for fault in (*Fault, None):
        these = [each for each in rounds if fault in (None, each.fault)]
        aims = [each.aimed for each in these if each.aimed is not None]
        cells: list[Any] = [
            fault or "all", len(these), sum(len(each.jobs) for each in these),
            sum(len(each.strikes) for each in these), sum(len(each.hit) for each in these),
            f"{sum(aims)} of {len(aims)}" if aims else "", sum(each.interrupted for each in these),
            sum(each.resumed for each in these), sum(each.redone for each in these),
            f"{max((each.lost_s for each in these), default=0):.2f}",
            sum(each.connections for each in these), sum(len(each.wrong) for each in these),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def each_in_turn(rounds: int) -> list[Fault]:
    """So many faults, of every kind as many."""
    return [list(Fault)[number % len(Fault)] for number in range(rounds)]


def campaign(folder: Path, faults: Sequence[Fault], seed: int) -> list[Round]:
    """Run one, print its table and keep it under build/reports."""
    sys.stdout.write(f"\n{len(faults)} rounds with seed {seed}\n")
    done = Campaign(folder, seed).run(faults)
    told = table(done, seed)
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / "faults-rounds.md").write_text(told)
    (REPORTS / "faults-rounds.json").write_text(
        json.dumps({"seed": seed, "rounds": [asdict(each) for each in done]}, default=sorted)
    )
    sys.stdout.write(f"\n{told}\n")
    return done


def main() -> int:
    """Run from the command line; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return int(any(each.wrong for each in campaign(Path(folder), each_in_turn(given.rounds), given.seed)))


if __name__ == "__main__":
    sys.exit(main())

"""A soak: many mixed jobs from many clients against one real server, and what its memory does meanwhile.

python -m tests.faults.soak --jobs 2000 --clients 20
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
from tests.acceptance.real_server import RealServer

from .mix import mix, pixels, sha256
from .rounds import REPORTS

MIB = 1 << 20
EVERY_S = 0.5
MAX_GROWTH = 0.02
ENOUGH = 1000
"""From so many jobs on, growth is a promise: shorter soaks end while allocators still settle, and only print it."""
WAIT_S = 30


@dataclass
class Figures:
    """What a soak found. `memory`: (jobs done, seconds, bytes of the server, bytes of the worker), as it went."""

    jobs: int
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    memory: list[tuple[int, float, int, int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def growth(self, column: int) -> float:
        """How much a process (2: the server, 3: the worker) grew over the second half, as a share: the middle of the
        last tenth of all jobs against that of the tenth after the half."""
        early = [each[column] for each in self.memory if 0.5 <= each[0] / self.jobs < 0.6]
        late = [each[column] for each in self.memory if each[0] / self.jobs >= 0.9]
        return statistics.median(late) / statistics.median(early) - 1 if early and late else float("nan")

    def leaks(self) -> list[str]:
        """Which process grew by more than it may, in words."""
        if self.jobs < ENOUGH:
            return []
        shares = {"server": self.growth(2), "worker": self.growth(3)}
        return [
            f"the {name} grew by {share:.2%} over the second half of {self.jobs} jobs, {MAX_GROWTH:.0%} are allowed"
            for name, share in shares.items()
            if not share < MAX_GROWTH  # nor is nothing known good enough
        ]

    def table(self) -> str:
        """In Markdown."""
        ordered = sorted(self.latencies)
        usual, slowest = statistics.median(ordered), ordered[int(0.99 * len(ordered))]
        lines = [
            f"{self.jobs} jobs in {self.seconds:.0f} s ({self.jobs / self.seconds:.1f} a second); from submission to "
            f"the file in hand: median {usual:.2f} s, p99 {slowest:.2f} s; broken promises: {len(self.wrong)}.",
            "",
            "| process | RSS in MiB after a tenth of the jobs | half | all | growth over the second half |",
            "|---|--:|--:|--:|--:|",
        ]
        for name, column in (("server", 2), ("worker", 3)):
            shares = [self._at(share, column) / MIB for share in (0.1, 0.5, 1.0)]
            cells = [f"{each:.1f}" for each in shares]
            lines.append(f"| {name} | {' | '.join(cells)} | {self.growth(column):+.2%} |")
        return "\n".join(lines) + "\n"

    def _at(self, share: float, column: int) -> int:
        return min(self.memory, key=lambda each: abs(each[0] / self.jobs - share))[column]


class Soak:
    """`jobs` in all, `clients` at once; every job is another one by prompt and seed."""

    def __init__(self, server: RealServer, jobs: int, clients: int, seed: int) -> None:
        self.figures = Figures(jobs)
        self._server = server
        self._clients = clients
        self._random = random.Random(seed)
        self._numbers = count()
        self._lock = threading.Lock()
        self._over = threading.Event()

    def run(self) -> Figures:
        """Until all are done."""
        began = time.monotonic()
        watching = threading.Thread(target=self._watch, args=(began,))
        watching.start()
        try:
            with ThreadPoolExecutor(self._clients) as pool:
                for client in [pool.submit(self._client) for _ in range(self._clients)]:
                    client.result()
        finally:
            self.figures.seconds = time.monotonic() - began
            self._over.set()
            watching.join()
        return self.figures

    def _next(self) -> dict[str, Any] | None:
        with self._lock:
            number = next(self._numbers)
            if number >= self.figures.jobs:
                return None
            body = dict(mix()[self._random.choice(list(mix()))])
            things, colours = ("house", "boat", "tree", "tent", "lighthouse"), ("red", "blue", "white", "yellow")
            prompt = f"a {self._random.choice(colours)} {self._random.choice(things)} number {number}"
            return {**body, "prompt": prompt, "seed": number, "steps": self._random.randint(2, 4)}

    def _client(self) -> None:
        with httpx.Client(base_url=self._server.http.base_url, timeout=120) as http:
            while (body := self._next()) is not None:
                began = time.monotonic()
                wrong = self._one(http, body)
                with self._lock:
                    self.figures.latencies.append(time.monotonic() - began)
                    self.figures.wrong += wrong

    def _one(self, http: httpx.Client, body: dict[str, Any]) -> list[str]:
        """Hand a job in, wait for it, take its files."""
        answer = http.post("/v1/jobs", json=body, params={"wait": WAIT_S})
        if answer.status_code not in (200, 202):
            return [f"{answer.status_code}: {answer.text}"]
        url = f"/v1/jobs/{answer.json()['id']}"
        record = http.get(url).json()
        while record["state"] in ("queued", "running"):
            time.sleep(0.1)
            record = http.get(url).json()
        if record["state"] != "succeeded" or len(record["artifacts"]) != body.get("batch_size", 1):
            return [f"{url} {record['state']} with {len(record['artifacts'])} files: {record['failure']}"]
        files = [http.get(artifact["url"]).content for artifact in record["artifacts"]]
        whole = [sha256(file) == artifact["sha256"] for file, artifact in zip(files, record["artifacts"], strict=True)]
        sizes = {pixels(file).shape for file in files}
        return [] if all(whole) and sizes == {(body["height"], body["width"], 3)} else [f"{url}: {whole} {sizes}"]

    def _watch(self, began: float) -> None:
        assert self._server.process is not None
        server, worker = psutil.Process(self._server.process.pid), psutil.Process(self._server.worker_pid())
        while not self._over.wait(EVERY_S):
            done = len(self.figures.latencies)
            bytes_now = server.memory_info().rss, worker.memory_info().rss
            self.figures.memory.append((done, time.monotonic() - began, *bytes_now))


def soak(folder: Path, jobs: int, clients: int, seed: int) -> Figures:
    """Run one on a new server, print its table and keep it under build/reports."""
    # As it is shipped, but for threads: checkpoints every two seconds, so that most jobs here need none.
    values = {"jobs.checkpoint_interval_s": 2.0, "jobs.heartbeat_s": 2.0, "jobs.lease_s": 15.0}
    with RealServer(folder / "home", **values) as server:
        server.worker_pid()
        figures = Soak(server, jobs, clients, seed).run()
    figures.wrong += figures.leaks()
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / "faults-soak.md").write_text(figures.table())
    (REPORTS / "faults-soak.json").write_text(json.dumps(vars(figures)))
    sys.stdout.write(f"\n{figures.table()}\n" + "".join(f"WRONG {each}\n" for each in figures.wrong))
    return figures


def main() -> int:
    """Run from the command line; 1 where a promise was broken, memory that grows among them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return int(bool(soak(Path(folder), given.jobs, given.clients, given.seed).wrong))


if __name__ == "__main__":
    sys.exit(main())

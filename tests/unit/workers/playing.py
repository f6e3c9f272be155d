"""A server in small for tests: it notes what workers say and how they end."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from safelight.workers.messages import Assign, Ready
from safelight.workers.pool import Limits, Pool
from safelight.workers.spec import WorkerSpec

HERE = "tests.unit.workers.loops"
ROOT = Path(__file__).parents[3]
PRELOAD = ("safelight.workers.process",)


def spec(loop="ObedientLoop", **fields):
    usual = {"id": "cpu", "device": "cpu", "heartbeat_s": 0.1, "loop": f"{HERE}:{loop}", "extensions": (HERE,)}
    return WorkerSpec(**{**usual, **fields})


def assign(job, prompt, attempt=1, **fields):
    body = {"operation": "test.do", "prompt": prompt}
    usual = {"resolved": body, "recipe": f"{HERE}:recipe", "folder": "/nowhere", "owner": "me"}
    return Assign(job=job, attempt=attempt, **{**usual, **fields})


@dataclass
class Server:
    pool: Pool | None = None
    said: list = field(default_factory=list)
    exits: list = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def on_message(self, worker, message):
        self.said.append((worker, message))
        async with self.changed:
            self.changed.notify_all()

    async def on_exit(self, worker, released):
        self.exits.append((worker, released))
        async with self.changed:
            self.changed.notify_all()

    async def until_polled(self, condition):
        """Like `until`, for what no message announces."""
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    async def until(self, condition, within_s=60):
        """The first true value of `condition()`."""
        async with asyncio.timeout(within_s), self.changed:
            while not (found := condition()):
                await self.changed.wait()
            return found

    def of(self, kind, job=None):
        """What was said of that kind (about that job)."""
        return [m for _, m in self.said if isinstance(m, kind) and (job is None or m.job == job)]

    async def ready(self, count=1):
        """The worker that said Ready as the `count`th."""
        await self.until(lambda: len(self.of(Ready)) >= count)
        return [worker for worker, m in self.said if isinstance(m, Ready)][count - 1]

    async def end(self, count=1):
        """(worker, released) of the `count`th exit."""
        await self.until(lambda: len(self.exits) >= count)
        return self.exits[count - 1]


@asynccontextmanager
async def serving(launcher, *specs, limits=None, grace_s=2.0):
    """A pool of `specs` with a server that listens."""
    server = Server()
    pool = server.pool = Pool(launcher, specs or (spec(),), server.on_message, server.on_exit, limits or Limits())
    await pool.open()
    try:
        yield server
    finally:
        await pool.close(grace_s)


def alive(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def gone_within(pids, seconds):
    """How long until none of `pids` ran, or None."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if not any(alive(pid) for pid in pids):
            return time.monotonic() - began
        time.sleep(0.02)
    return None

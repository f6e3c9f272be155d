"""Upkeep on a clock: what a crash left is swept at the start, and retention is kept every so often."""

from __future__ import annotations

import asyncio
import logging
import time

from safelight.jobs.ledger import Clock
from safelight.jobs.store import Store
from safelight.jobs.upkeep import GRACE_S, Folders, Retention, Tidied, tidy
from safelight.settings import Settings

log = logging.getLogger(__name__)

EVERY_S = 600.0
JUMP_S = 60.0
"""What the wall clock may gain or lose on the monotonic one between two rounds without counting as a jump."""

GIB = 1 << 30


def retention_of(settings: Settings) -> Retention:
    """What the settings say of retention; 0 there is no limit."""
    storage = settings.storage
    return Retention(storage.retention_days or None, int(storage.retention_gib * GIB) or None, storage.bin_days or None)


class Grace:
    """Which files are old enough to be removed where no row names them: those put GRACE_S ago.

    Files are stamped by the wall clock. If that has jumped since the last round, one that was put a moment before the
    jump looks old although its row is still on the way: then all stay until GRACE_S have really passed. At the start
    nobody writes, so nothing is on its way.
    """

    def __init__(self, wall: Clock, tick: Clock) -> None:
        self._wall = wall
        self._tick = tick
        self._apart = wall() - tick()
        self._quiet_until = tick()

    def files_before(self) -> float:
        """Wall time before which a file must have been put."""
        wall, tick = self._wall(), self._tick()
        jumped = abs(wall - tick - self._apart) > JUMP_S
        self._apart = wall - tick
        if jumped:
            self._quiet_until = tick + GRACE_S
            log.warning("The wall clock has jumped; ages are counted without it.")
        return wall - GRACE_S if tick >= self._quiet_until else 0.0


class Tidying:
    """The task that tidies. `begin` it once the store is open, `end` it before the store is closed."""

    def __init__(self, store: Store, retention: Retention, folders: Folders, grace: Grace) -> None:
        self._store = store
        self._grace = grace
        self._retention = retention
        self._folders = folders
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def begin(cls, store: Store, retention: Retention, folders: Folders, wall: Clock = time.time,
                    tick: Clock = time.monotonic) -> Tidying:  # fmt: skip
        """Sweep what a crash left half written, before anybody writes; then tidy now and every EVERY_S."""
        made = cls(store, retention, folders, Grace(wall, tick))
        for files in (folders.artifacts, folders.uploads):
            await asyncio.to_thread(files.sweep)
        made._task = asyncio.create_task(made._run(), name="tidying")
        return made

    async def end(self) -> None:
        """Stop; a round under way may be left in the middle, the next one finishes it. Raises nothing of its own."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            # A full disk, a locked store or a fault today is no reason to keep everything for ever.
            [done] = await asyncio.gather(self._round(), return_exceptions=True)
            if isinstance(done, BaseException):
                log.error("Tidying failed; once more in %g s.", EVERY_S, exc_info=done)
            elif done.jobs or done.binned or done.files or done.checkpoints:
                log.info("tidied", extra={"jobs": done.jobs, "binned": done.binned, "files": done.files,
                                          "bytes": done.bytes, "checkpoints": done.checkpoints})  # fmt: skip
            await asyncio.sleep(EVERY_S)

    async def _round(self) -> Tidied:
        return await tidy(self._store, self._retention, self._folders, self._grace.files_before())

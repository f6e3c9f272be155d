"""Upkeep on a clock: what a crash left is swept at the start, and retention is kept every so often."""

from __future__ import annotations

import asyncio
import logging
import time

from safelight.jobs.store import Store
from safelight.jobs.upkeep import Folders, Retention, Tidied, tidy
from safelight.settings import Settings

log = logging.getLogger(__name__)

EVERY_S = 600.0
GIB = 1 << 30


def retention_of(settings: Settings) -> Retention:
    """What the settings say of retention; 0 there is no limit."""
    storage = settings.storage
    return Retention(storage.retention_days or None, int(storage.retention_gib * GIB) or None, storage.bin_days or None)


class Tidying:
    """The task that tidies. `begin` it once the store is open, `end` it before the store is closed."""

    def __init__(self, store: Store, retention: Retention, folders: Folders) -> None:
        self._store = store
        self._retention = retention
        self._folders = folders
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def begin(cls, store: Store, retention: Retention, folders: Folders) -> Tidying:
        """Sweep what a crash left half written, before anybody writes; then tidy now and every EVERY_S."""
        made = cls(store, retention, folders)
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
        return await tidy(self._store, self._retention, self._folders, time.time())

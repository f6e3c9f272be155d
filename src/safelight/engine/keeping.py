"""When a job's checkpoints are written, off the loop's thread, and whether a job may go on from one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from safelight import __version__
from safelight.core.events import EventKind
from safelight.engine import checkpoint
from safelight.engine.device import Device
from safelight.engine.openjob import OpenJob
from safelight.engine.reporter import Reporter
from safelight.errors import UnreadableFile

Tell = Callable[[OpenJob, EventKind, Mapping[str, Any]], None]
"""Tells an event of a job."""


class Keeper:
    """Writes and reads the checkpoints of a loop's open jobs. Its methods belong to the loop's thread.

    `interval_s`: the least time between two checkpoints of a job; 0: after every step, and waited for.
    """

    def __init__(self, where: Device, interval_s: float, reporter: Reporter, tell: Tell) -> None:
        self._where, self._interval_s = where, interval_s
        self._reporter, self._tell = reporter, tell
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")

    def restore(self, job: OpenJob, folder: Path) -> None:
        """Go on from a checkpoint, or say why not and start anew."""
        try:
            snapshot = checkpoint.read(folder, self._where.device)
            why = snapshot.identity.differs(self._identity(job), job.order.deterministic)
        except UnreadableFile as error:
            why = error.message
        else:
            if not why:
                job.results.update(snapshot.results)
                job.resumable = snapshot.runs
                job.width = snapshot.width
                return
        self._tell(job, EventKind.WARNING, {"message": f"The checkpoint is dropped and the work starts anew: {why}."})

    def write_if_due(self, job: OpenJob) -> None:
        """Write a checkpoint where something changed, the interval is over and none is being written."""
        due = time.monotonic() - job.checkpoint_at >= self._interval_s
        if job.changed and due and (job.writing is None or job.writing.done()) and not job.closed:
            self._write(job)
            if self._interval_s == 0 and job.writing is not None:
                wait([job.writing])

    def write_now(self, job: OpenJob) -> None:
        """Write a checkpoint of the job as it is, if there is anything to keep, and wait until it is on disk."""
        snapshot = job.snapshot(self._identity(job))
        if snapshot.results or snapshot.runs:
            self._write(job)
        if job.writing is not None:
            wait([job.writing])

    def stop(self) -> None:
        """Finish what is being written."""
        self._writer.shutdown(wait=True)

    def _identity(self, job: OpenJob) -> checkpoint.Identity:
        engine = f"safelight {__version__}, torch {torch.__version__}"
        return checkpoint.Identity(job.order.request, engine, job.plan)

    def _write(self, job: OpenJob) -> None:
        """Gather the state now, write it on another thread, and tell of it once it is whole on disk."""
        job.changed, job.checkpoint_at = False, time.monotonic()
        job.checkpoint_serial += 1
        snapshot = job.snapshot(self._identity(job))
        folder = job.order.folder / f"{job.order.attempt}-{job.checkpoint_serial}"

        def write() -> None:
            try:
                checkpoint.write(snapshot, folder)
            except OSError as error:
                job.changed = True  # what could not be kept is tried again when the next one is due
                self._tell(job, EventKind.WARNING, {"message": f"A checkpoint could not be written: {error}."})
                return
            if job.closed:
                checkpoint.remove(folder)
            else:
                self._reporter.checkpointed(*job.key, str(folder), snapshot.steps)

        job.writing = self._writer.submit(write)

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
from safelight.engine.residency import memory
from safelight.errors import UnreadableFile

Tell = Callable[[OpenJob, EventKind, Mapping[str, Any]], None]
"""Tells an event of a job."""

NOTED_S = 0.1
"""How long it may take until the server has noted a checkpoint that is on disk."""

FORGETS = 0.7
"""What is left of a slow write's time, as an expectation, a write later."""


class Keeper:
    """Writes and reads the checkpoints of a loop's open jobs. Its methods belong to the loop's thread.

    `interval_s`: the most work of a job that an end of the process may cost; 0: a checkpoint after every step, and
    waited for. A job whose steps take longer than a quarter of it may lose more: never less than half of it lies
    between two checkpoints, so that slow steps and slow disks do not make a worker that only writes.
    """

    def __init__(self, where: Device, interval_s: float, reporter: Reporter, tell: Tell) -> None:
        self._where, self._interval_s = where, interval_s
        self._reporter, self._tell = reporter, tell
        self._write_s = 0.0
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
        """Write a checkpoint where something changed, the next chance would be too late and none is being written."""
        if job.changed and self._due(job) and (job.writing is None or job.writing.done()) and not job.closed:
            self._write(job)
            if self._interval_s == 0 and job.writing is not None:
                wait([job.writing])

    def _due(self, job: OpenJob) -> bool:
        """Whether, a step later, more than the interval would be lost before a checkpoint is on disk. One step counts
        twice: what the last checkpoint holds was up to a step old."""
        step_s = max((task.step_s for task in job.tasks.values()), default=0.0)
        ahead_s = min(2 * step_s + self._write_s + NOTED_S, self._interval_s / 2)
        return time.monotonic() - job.checkpoint_at + ahead_s >= self._interval_s

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
        began = job.checkpoint_at

        def write() -> None:
            try:
                checkpoint.write(snapshot, folder)
            except (OSError, MemoryError, RuntimeError) as error:
                if not isinstance(error, OSError) and not memory.ran_out(error):
                    raise
                job.changed = True  # what could not be kept is tried again when the next one is due
                self._tell(job, EventKind.WARNING, {"message": f"A checkpoint could not be written: {error}."})
                return
            self._write_s = max(time.monotonic() - began, FORGETS * self._write_s)  # set on the writer's thread alone
            if job.closed:
                checkpoint.remove(folder)
            else:
                self._reporter.checkpointed(*job.key, str(folder), snapshot.steps)

        job.writing = self._writer.submit(write)

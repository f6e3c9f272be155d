"""The worker's one loop: it drives the recipes of all its open jobs and does their stages side by side.

A turn is one piece of somebody's own work (a prompt, a tile) and one forward pass that everybody's steps share. Between
turns anything may change: jobs join, leave, are paused; nothing waits for longer than one pass.
"""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from safelight import __version__
from safelight.core.events import EventKind
from safelight.core.names import attribute
from safelight.core.stages import Sample, Stage
from safelight.core.states import AttemptEnd
from safelight.core.tables import Tables
from safelight.engine import checkpoint, preview
from safelight.engine.batcher import Batcher
from safelight.engine.device import Device
from safelight.engine.openjob import OpenJob, Order
from safelight.engine.reporter import Reporter
from safelight.engine.residency import memory
from safelight.engine.residency.bench import Bench
from safelight.engine.results import Stored
from safelight.engine.task import Task
from safelight.engine.work import Boundary, Desk, Handler, Notice
from safelight.errors import NoRoomNow, OutOfMemory, SafelightError, UnreadableFile
from safelight.placement.profiles import PassKey, Profiles

IDLE_WAIT_S = 0.02
"""How long a turn waits for a file being written when there is nothing else to do."""


FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Errors of a disk that takes nothing more: no fault of a job, which waits until it is tried again."""


@dataclass(frozen=True)
class LoopOptions:
    """How a loop works. `memory_gib`: for weights, 0 = a share of what is free. `preview_steps`: 0 = no previews."""

    artifacts: Path
    max_batch: int = 8
    memory_gib: float = 0.0
    checkpoint_interval_s: float = 2.0
    preview_steps: int = 3


@dataclass(frozen=True)
class Pulse:
    """How the loop is, for heartbeats. `idle_s`: since the last piece of work ended; `expected_s`: of the next."""

    open: list[tuple[str, int]]
    holds: list[str]
    bytes_free: int
    bytes_held: int
    idle_s: float
    expected_s: float


class Loop:
    """Open jobs and the turns they take. Every method but `pulse` belongs to one thread."""

    def __init__(self, where: Device, tables: Tables, options: LoopOptions, reporter: Reporter) -> None:
        self.where, self.tables, self.options = where, tables, options
        budget = memory.budget(where.device, options.memory_gib)
        self.bench = Bench(where, budget, tables.families, self._loading)
        self.batcher = Batcher(options.max_batch, where.dtype_name, Profiles(), self._measured)
        self._reporter = reporter
        self._began_with = memory.held(where.device)
        self._jobs: dict[tuple[str, int], OpenJob] = {}
        self._saver = ThreadPoolExecutor(max_workers=2, thread_name_prefix="save")
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._current: OpenJob | None = None
        self._worked_at = time.monotonic()
        self._expected_s = 0.0

    # -- what others may ask for

    def open(self, order: Order) -> None:
        """Take up an attempt, from its checkpoint where that fits."""
        job = OpenJob(order, previews=order.previews)
        self._jobs[job.key] = job
        if order.checkpoint is not None:
            self._restore(job, order.checkpoint)

    def cancel(self, job: str, attempt: int) -> None:
        """Drop the attempt before the next pass."""
        self._leave(job, attempt, AttemptEnd.CANCELLED)

    def pause(self, job: str, attempt: int, end: str) -> None:
        """Keep a checkpoint of the attempt and let it go. `end`: paused or preempted."""
        self._leave(job, attempt, AttemptEnd(end))

    def watch(self, job: str, attempt: int, previews: bool) -> None:
        """Somebody watches the attempt, or nobody any more."""
        if found := self._jobs.get((job, attempt)):
            found.previews = previews

    def stop(self) -> None:
        """Checkpoint and give back everything, then end the writing threads."""
        for job in list(self._jobs.values()):
            job.leaving = AttemptEnd.SERVER_STOPPED
        self._let_go()
        self._saver.shutdown(wait=True)
        self._writer.shutdown(wait=True)

    def pulse(self) -> Pulse:
        """How it is. May be asked from another thread."""
        now = time.monotonic()
        return Pulse(
            open=list(self._jobs),
            holds=self.bench.keys,
            bytes_free=max(0, self.bench.budget - self.bench.bytes),
            bytes_held=self.bench.bytes,
            idle_s=now - self._worked_at if self._jobs else 0.0,
            expected_s=self._expected_s,
        )

    # -- a turn

    def turn(self) -> bool:
        """Do one piece of work and one pass. False where there was nothing to do."""
        self._let_go()
        busy = self._recipes()
        busy = self._piece() or busy
        busy = self._pass() or busy
        held = memory.held(self.where.device) - self._began_with if busy else 0
        for job in list(self._jobs.values()):
            job.peak_bytes = max(job.peak_bytes, held)
            self._checkpoint_if_due(job)
        busy = busy or self._await_files()
        self._worked_at, self._expected_s = time.monotonic(), 0.0
        return busy

    def _recipes(self) -> bool:
        """Let every recipe whose stages are done ask on."""
        due = [job for job in self._jobs.values() if not job.tasks]
        for job in due:
            self._guarded(job, self._proceed)
        return bool(due)

    def _proceed(self, job: OpenJob) -> None:
        result = job.proceed(lambda number, stage: self._begin(job, number, stage))
        if result is not None:
            self._reporter.succeeded(*job.key, result, job.timings, job.peak_bytes)
            self._close(job)

    def _begin(self, job: OpenJob, number: int, stage: Stage) -> None:
        """Start a stage, unless its result was kept."""
        record = self.tables.stages.get(type(stage).__name__)
        facts = {"node": record.id, "stage": number}
        if number in job.results:
            self._tell(job, EventKind.STAGE, {**facts, "state": "cached"})
            return
        desk = Desk(
            tables=self.tables,
            bench=self.bench,
            results=job.results,
            artifacts=self.options.artifacts,
            saver=self._saver,
            deterministic=job.order.deterministic,
            word=f"{job.order.job}/{number}",
            resumed=job.resumable.get(number),
        )
        handler: Handler = attribute(record.code)
        task = Task(number, stage, record, handler(stage, desk))
        task.state = desk.resumed
        job.tasks[number] = task
        self._tell(job, EventKind.STAGE, {**facts, "state": "entered"})

    def _piece(self) -> bool:
        """A piece of the task that was served longest ago. Those that only ask for the network take nobody's time."""
        runnable = [(task, job) for job in self._jobs.values() for task in job.tasks.values() if task.runnable]
        for task, job in sorted(runnable, key=lambda pair: pair[0].served):
            self._guarded(job, lambda job, task=task: self._advance(job, task))  # type: ignore[misc]
            if not task.wanted:
                break
        return bool(runnable)

    def _pass(self) -> bool:
        """One forward pass over what has waited longest and what may share it."""
        owners = {
            wanted: (task, job) for job in self._jobs.values() for task in job.tasks.values() for wanted in task.wanted
        }
        rows = self.batcher.choose(list(owners))
        if not rows:
            return False
        self._expected_s = self.batcher.expect(rows)
        for wanted, outcome in zip(rows, self.batcher.run(rows), strict=True):
            owners[wanted][0].answer(wanted, outcome)
        for task, job in dict.fromkeys(owners[wanted] for wanted in rows):
            if task.runnable and job.key in self._jobs:
                self._guarded(job, lambda job, task=task: self._advance(job, task))  # type: ignore[misc]
        return True

    def _advance(self, job: OpenJob, task: Task) -> None:
        """Let a task go on until it waits, has done a piece, or is done."""
        while (told := task.advance()) is not None:
            if isinstance(told, Notice):
                self._tell(job, told.kind, told.data)
            else:
                self._stepped(job, task, told)
        if task.result is None:
            return
        if isinstance(task.result, Stored):
            self._reporter.saved(*job.key, task.result.facts)
        job.finish(task, task.result)
        self._tell(job, EventKind.STAGE, {"node": task.record.id, "stage": task.number, "state": "done"})

    def _stepped(self, job: OpenJob, task: Task, done: Boundary) -> None:
        """Tell of a finished step; make a preview of it if somebody watches."""
        job.changed = True
        eta_s = (time.monotonic() - task.began) / max(1, done.step) * (done.steps - done.step)
        facts = {"picture": done.picture, "step": done.step, "steps": done.steps}
        data = {**facts, "stage": task.number, "sigma": done.sigma, "eta_s": round(eta_s, 3)}
        self._tell(job, EventKind.STEP, data)
        every = self.options.preview_steps
        if job.previews and every and done.step % every == 0 and isinstance(task.stage, Sample):
            self._preview(job, task.stage, done)

    def _preview(self, job: OpenJob, stage: Sample, done: Boundary) -> None:
        try:
            with self.bench.autoencoder(stage.segments[0].network) as lent:
                rough = preview.look(done.clean, *lent.autoencoder.preview)
                scale = lent.autoencoder.factor // 2
        except OutOfMemory:
            job.previews = False  # a preview is not worth a job
            return

        def tell() -> None:
            self._tell(
                job, EventKind.PREVIEW, {"picture": done.picture, "step": done.step, **preview.picture(rough, scale)}
            )

        self._saver.submit(tell)

    def _await_files(self) -> bool:
        """With nothing else to do, wait a little for a file that is being written."""
        writing = [task.future for job in self._jobs.values() for task in job.tasks.values() if task.future]
        if writing:
            wait(writing, IDLE_WAIT_S, FIRST_COMPLETED)
        return bool(writing)

    # -- checkpoints

    @property
    def plan(self) -> dict[str, Any]:
        """How this worker computes: what a deterministic picture depends on besides its request."""
        return {
            "device": self.where.device.type,
            "dtype": self.where.dtype_name,
            "channels_last": self.where.channels_last,
            "threads": torch.get_num_threads(),
        }

    def _identity(self, job: OpenJob) -> checkpoint.Identity:
        engine = f"safelight {__version__}, torch {torch.__version__}"
        return checkpoint.Identity(job.order.request, engine, self.plan)

    def _restore(self, job: OpenJob, folder: Path) -> None:
        """Go on from a checkpoint, or say why not and start anew."""
        try:
            snapshot = checkpoint.read(folder, self.where.device)
            why = snapshot.identity.differs(self._identity(job), job.order.deterministic)
        except UnreadableFile as error:
            why = error.message
        else:
            if not why:
                job.results.update(snapshot.results)
                job.resumable = snapshot.runs
                return
        self._tell(job, EventKind.WARNING, {"message": f"The checkpoint is dropped and the work starts anew: {why}."})

    def _checkpoint_if_due(self, job: OpenJob) -> None:
        interval = self.options.checkpoint_interval_s
        due = time.monotonic() - job.checkpoint_at >= interval
        if job.changed and due and (job.writing is None or job.writing.done()) and job.key in self._jobs:
            self._write_checkpoint(job)
            if interval == 0 and job.writing is not None:
                wait([job.writing])

    def _write_checkpoint(self, job: OpenJob) -> None:
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

    # -- leaving

    def _leave(self, job: str, attempt: int, end: AttemptEnd) -> None:
        if found := self._jobs.get((job, attempt)):
            found.leaving = end

    def _let_go(self) -> None:
        """Give back the jobs that are to leave; all but the cancelled keep a checkpoint of their last step."""
        for job in [job for job in self._jobs.values() if job.leaving]:
            if job.leaving != AttemptEnd.CANCELLED:
                self._keep(job)
            self._reporter.ended(*job.key, job.leaving, {})
            self._close(job)

    def _keep(self, job: OpenJob) -> None:
        """Write a checkpoint of the job as it is, if there is anything to keep, and wait until it is on disk."""
        snapshot = job.snapshot(self._identity(job))
        if snapshot.results or snapshot.runs:
            self._write_checkpoint(job)
        if job.writing is not None:
            wait([job.writing])

    def _close(self, job: OpenJob) -> None:
        self._jobs.pop(job.key, None)
        job.close()

    def _guarded(self, job: OpenJob, work: Callable[[OpenJob], None]) -> None:
        """Do a job's own work: whatever it raises ends this job's attempt, and no other's."""
        self._current = job
        try:
            work(job)
        except NoRoomNow as error:
            if len(self._jobs) == 1:  # nobody else to wait for
                self._fail(job, AttemptEnd.REFUSED, error.kind, error.message, error.hint)
            else:
                self._decline(job, error.message)
        except SafelightError as error:
            self._fail(job, AttemptEnd.REFUSED, error.kind, error.message, error.hint)
        except OSError as error:
            if error.errno in FULL:
                self._decline(job, f"Nothing can be written: {error}.")
            else:
                self._fail(job, AttemptEnd.ERROR, type(error).__name__, str(error), trace=traced(error))
        except Exception as error:  # noqa: BLE001 - the worker's loop: recorded with its trace, charged to this job alone
            if ran_out_of_memory(error):
                hint = "Ask for a smaller picture or batch, or raise devices.memory_gib."
                self._fail(job, AttemptEnd.REFUSED, OutOfMemory.kind, f"The device ran out of memory: {error}", hint)
            else:
                self._fail(job, AttemptEnd.ERROR, type(error).__name__, str(error), trace=traced(error))
        finally:
            self._current = None

    def _decline(self, job: OpenJob, reason: str) -> None:
        """Give the job back until the others are done, with what it has so far."""
        self._keep(job)
        self._reporter.declined(*job.key, reason)
        self._close(job)

    def _fail(self, job: OpenJob, end: AttemptEnd, kind: str, message: str, hint: str = "", trace: str = "") -> None:
        self._reporter.ended(*job.key, end, {"kind": kind, "message": message, "hint": hint, "trace": trace})
        self._close(job)

    # -- telling

    def _tell(self, job: OpenJob, kind: EventKind, data: Mapping[str, Any]) -> None:
        if not job.closed:
            self._reporter.event(*job.key, kind, data)

    def _loading(self, name: str, size: int) -> None:
        if self._current is not None:
            data = {"component": name, "bytes_done": 0, "bytes_total": size}
            self._tell(self._current, EventKind.LOADING, data)

    def _measured(self, key: PassKey, width: int, seconds: float) -> None:
        self._reporter.profile(*key, width, seconds)


def traced(error: Exception) -> str:
    """The whole trace, for the attempt's record."""
    return "".join(traceback.format_exception(error))


def ran_out_of_memory(error: Exception) -> bool:
    """Whether torch could not allocate: a class of its own on GPUs, words on the CPU."""
    words = str(error).casefold()
    told = "not enough memory" in words or "can't allocate memory" in words
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and told)

"""The worker's one loop: it drives the recipes of all its open jobs and does their stages side by side.

A turn is pieces of jobs' own work (a prompt, a tile), for about as long as a pass takes, and one forward pass that
everybody's steps share. Between turns anything may change: jobs join, leave, are paused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.core.events import EventKind
from safelight.core.names import attribute, one_of
from safelight.core.plans import differences
from safelight.core.stages import Sample, Stage
from safelight.core.states import AttemptEnd
from safelight.core.tables import Tables
from safelight.engine import preview
from safelight.engine.batcher import Batcher
from safelight.engine.device import Device
from safelight.engine.failures import Failure, judge
from safelight.engine.keeping import Keeper
from safelight.engine.openjob import OpenJob, Order
from safelight.engine.plans import arithmetic, own_plan
from safelight.engine.reporter import Reporter
from safelight.engine.residency import memory
from safelight.engine.residency.bench import Bench
from safelight.engine.residency.passes import PassRoom
from safelight.engine.results import Stored
from safelight.engine.task import Task
from safelight.engine.weights.converted import ConvertedWeights
from safelight.engine.work import Boundary, Desk, Handler, Notice
from safelight.errors import OutOfMemory
from safelight.placement.profiles import PassKey, Profiles

IDLE_WAIT_S = 0.02
"""How long a turn waits for a file being written when there is nothing else to do."""


@dataclass(frozen=True)
class LoopOptions:
    """How a loop works. `memory_gib`: for weights, 0 = a share of what is free. `preview_steps`: 0 = no previews.

    `converted`: folder for converted copies of weights, of at most `converted_gib` together; 0: none are kept.
    """

    artifacts: Path
    max_batch: int = 16
    memory_gib: float = 0.0
    checkpoint_interval_s: float = 2.0
    preview_steps: int = 3
    converted: Path | None = None
    converted_gib: float = 0.0


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
        self.plan = own_plan(where)
        budget = memory.budget(where.device, options.memory_gib)
        self.bench = Bench(where, budget, tables.families, self._loading, _kept(options))
        room = PassRoom(self.bench)
        self.batcher = Batcher(options.max_batch, where.dtype_name, Profiles(), self._measured, room)
        self._reporter = reporter
        self._began_with = memory.held(where.device)
        self._jobs: dict[tuple[str, int], OpenJob] = {}
        self._saver = ThreadPoolExecutor(max_workers=2, thread_name_prefix="save")
        self._keeper = Keeper(where, options.checkpoint_interval_s, reporter, self._tell)
        self._current: OpenJob | None = None
        self._worked_at = time.monotonic()
        self._expected_s = 0.0
        self._pass_s = 0.0

    # -- what others may ask for

    def open(self, order: Order) -> None:
        """Take up an attempt, from its checkpoint where that fits."""
        if why := differences(order.plan, self.plan) if order.plan else ():
            self._reporter.declined(order.job, order.attempt, f"The plan cannot be taken up: {one_of(why)}.")
            return
        job = OpenJob(order, order.plan or self.plan, previews=order.previews)
        self._jobs[job.key] = job
        if order.deterministic and not order.plan:
            self._reporter.planned(*job.key, self.plan)
        if order.checkpoint is not None:
            self._keeper.restore(job, order.checkpoint)

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
        self._keeper.stop()

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
        """Do pieces of work and one pass. False where there was nothing to do."""
        self._let_go()
        busy = self._pieces()
        busy = self._pass() or busy
        held = memory.held(self.where.device) - self._began_with if busy else 0
        for job in list(self._jobs.values()):
            job.peak_bytes = max(job.peak_bytes, held)
            self._keeper.write_if_due(job)
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
            plan={**job.plan, "passes": "own" if job.order.deterministic else "shared"},
            width=job.width,
            resumed=job.resumable.get(number),
        )
        handler: Handler = attribute(record.code)
        task = Task(number, stage, record, handler(stage, desk))
        task.state = desk.resumed
        job.tasks[number] = task
        self._tell(job, EventKind.STAGE, {**facts, "state": "entered"})

    def _pieces(self) -> bool:
        """At least one piece, and more for as long as the last pass took: jobs that come together get ready together
        and share their passes from the first step, and those that walk keep half of the time."""
        until = time.perf_counter() + self._pass_s
        busy = self._recipes()
        while self._piece():
            busy = True
            if time.perf_counter() >= until:
                break
            self._recipes()
        return busy

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
        began = time.perf_counter()
        with arithmetic(owners[rows[0]][1].plan):
            outcomes = self.batcher.run(rows)
        self._pass_s = time.perf_counter() - began
        for wanted, outcome in zip(rows, outcomes, strict=True):
            task, job = owners[wanted]
            task.answer(wanted, outcome)
            job.width = max(job.width, len(rows))
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

    # -- leaving

    def _leave(self, job: str, attempt: int, end: AttemptEnd) -> None:
        if found := self._jobs.get((job, attempt)):
            found.leaving = end

    def _let_go(self) -> None:
        """Give back the jobs that are to leave; all but the cancelled keep a checkpoint of their last step."""
        for job in [job for job in self._jobs.values() if job.leaving]:
            if job.leaving != AttemptEnd.CANCELLED:
                self._keeper.write_now(job)
            self._reporter.ended(*job.key, job.leaving, {})
            self._close(job)

    def _close(self, job: OpenJob) -> None:
        self._jobs.pop(job.key, None)
        job.close()

    def _guarded(self, job: OpenJob, work: Callable[[OpenJob], None]) -> None:
        """Do a job's own work: whatever it raises ends this job's attempt, and no other's."""
        self._current = job
        try:
            with arithmetic(job.plan):
                work(job)
        except Exception as error:  # noqa: BLE001 - the worker's loop: recorded with its trace, charged to this job alone
            verdict = judge(error, alone=len(self._jobs) == 1)
            if isinstance(verdict, Failure):
                self._reporter.ended(*job.key, verdict.end, verdict.told)
            else:
                self._keeper.write_now(job)
                self._reporter.declined(*job.key, verdict.reason)
            self._close(job)
        finally:
            self._current = None

    # -- telling

    def _tell(self, job: OpenJob, kind: EventKind, data: Mapping[str, Any]) -> None:
        if not job.closed:
            self._reporter.event(*job.key, kind, data)

    def _loading(self, name: str, done: int, total: int) -> None:
        if self._current is not None:
            data = {"component": name, "bytes_done": done, "bytes_total": total}
            self._tell(self._current, EventKind.LOADING, data)

    def _measured(self, key: PassKey, width: int, seconds: float) -> None:
        self._reporter.profile(*key, width, seconds)


def _kept(options: LoopOptions) -> ConvertedWeights | None:
    if options.converted is None or not options.converted_gib:
        return None
    return ConvertedWeights(options.converted, int(options.converted_gib * 2**30))

"""The acting half of dispatching: it asks `jobs.dispatcher.assign` what to do, and does it.

One loop wakes when a job comes or ends, when a worker changes, and every tick. It claims jobs and hands them to
workers, carries the owners' wishes to them, and gives back what a lost lease leaves behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from safelight.core.operations import OperationSpec
from safelight.core.registry import Registry
from safelight.core.states import AttemptEnd, JobState
from safelight.errors import NotFound, SafelightError, StaleAttempt
from safelight.jobs import dispatcher
from safelight.jobs.declines import Declines
from safelight.jobs.dispatcher import AssignTo, Decision, OpenJob, PassOver, Preempt, Refuse
from safelight.jobs.records import Job
from safelight.jobs.store import Store
from safelight.server.hearing import Hearing, drop
from safelight.server.hub import Hub
from safelight.server.services import WorkerView
from safelight.settings import Settings
from safelight.workers.channel import ChannelClosed
from safelight.workers.handle import Launcher, WorkerHandle, WorkerState
from safelight.workers.messages import Assign, Cancel, Pause, ToWorker, Watch
from safelight.workers.pool import Limits, Pool
from safelight.workers.spec import WorkerSpec

log = logging.getLogger(__name__)

TICK_S = 1.0
"""At least this often the queue, the leases and the owners' wishes are looked at."""

LONG_LOOK_S = 0.02
"""A look at the queue that takes longer is followed by a rest."""

HEAD = 200
"""So many jobs of the queue are read at first."""


class Dispatch:
    """Runs jobs on workers. `open` it after the store, `close` it before."""

    def __init__(self, store: Store, hub: Hub, launcher: Launcher, specs: Sequence[WorkerSpec], *,
                 settings: Settings, operations: Registry[OperationSpec],
                 limits: Limits | None = None) -> None:  # fmt: skip
        self._store = store
        self._hub = hub
        self._specs = tuple(specs)
        self._operations = operations
        self._jobs = settings.jobs
        self._checkpoints = settings.storage.home / "checkpoints"
        self._declines = Declines(time.monotonic)
        self._leaving: set[tuple[str, int]] = set()
        self._woken = asyncio.Event()
        self._tick_s = min(TICK_S, self._jobs.lease_s / 4)
        self._leases_due = 0.0
        self._left_over = 0
        self._stopping = False
        self._loop: asyncio.Task[None] | None = None
        limits = limits or Limits(hang_s=self._jobs.hang_s)
        self._hearing = Hearing(
            store, hub, lease_s=self._jobs.lease_s, limits=limits, changed=self.wake, declined=self._note_declined,
        )  # fmt: skip
        self._pool = Pool(
            launcher,
            self._specs,
            self._hearing.on_message,
            self._hearing.on_exit,
            limits,
        )

    async def open(self) -> None:
        """Give back what an earlier server left running, then keep workers and hand out jobs."""
        for job in await self._store.expired():
            await self._give_back(job, AttemptEnd.SERVER_STOPPED, "The server ended while the job ran.")
        if not self._jobs.take_up:
            self._left_over = await self._store.newest()
        self._hub.on_watch = self._watch
        await self._pool.open()
        self._loop = asyncio.create_task(self._run(), name="dispatch")
        self._loop.add_done_callback(_record)

    async def close(self, grace_s: float) -> None:
        """Hand out nothing more; workers checkpoint, give back what they have open, and end within `grace_s`."""
        self._stopping = True
        self.wake()
        if self._loop is not None:
            await asyncio.wait({self._loop})
        await self._pool.close(grace_s)

    def wake(self) -> None:
        """Something changed: look at the queue."""
        self._woken.set()

    async def withdraw(self, job: Job) -> None:
        """Carry the owner's wish to the worker that runs the job; what waits for its lease to end is not held up."""
        worker = self._worker_of(job.id, job.attempt)
        if worker is None or job.state is not JobState.RUNNING:
            self.wake()
        elif job.cancel_requested:
            _say(worker, Cancel(job=job.id, attempt=job.attempt))
        elif job.pause_requested:
            _say(worker, Pause(job=job.id, attempt=job.attempt, end=AttemptEnd.PAUSED))

    def workers(self) -> list[WorkerView]:
        """All configured workers, those that run with what they last said."""
        running = self._pool.workers
        return [_seen(spec, running.get(spec.id)) for spec in self._specs]

    def names(self) -> set[str]:
        """What a job may be pinned to: ids and devices."""
        return {name for each in self.workers() for name in (each.id, each.device)}

    def unready(self) -> str:
        """Why no job could run now; empty where a worker is ready or about to be."""
        if self._stopping or self._loop is None:
            return "The server is not running."
        if self._loop.done():
            return "Jobs are not handed out any more; the server's log says why. Restart the server."
        if not self._pool.kept:
            return "Workers are not looked after any more; the server's log says why. Restart the server."
        troubles = self._pool.troubles
        if self._pool.ready or any(spec.id not in troubles for spec in self._specs):
            return ""
        return " ".join(troubles[spec.id].reason for spec in self._specs) or "No worker is configured."

    # -- the loop

    async def _run(self) -> None:
        while not self._stopping:
            began = time.monotonic()
            try:
                await self._look()
                # A long queue is not read over and over while jobs pour in: at most a third of the time goes into it.
                # A short one is looked at whenever something happens, for a job may have come meanwhile.
                if (took := time.monotonic() - began) > LONG_LOOK_S:
                    await asyncio.sleep(2 * took)
            except (SafelightError, OSError):
                # The store may be locked or the disk full for a while: what is accepted waits for the next tick.
                log.exception("The queue could not be looked at; once more in %g s.", TICK_S)
                await asyncio.sleep(TICK_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._tick_s)

    async def _look(self) -> None:
        """Once through: leases, wishes, then the queue."""
        self._woken.clear()
        if (now := time.monotonic()) >= self._leases_due:  # not each time that a job comes or ends
            self._leases_due = now + self._tick_s
            for job in await self._store.expired():
                await self._expire(job)
        running = await self._store.running()
        self._declines.runs(job.id for job in running)
        for job in running:
            if job.cancel_requested or job.pause_requested:
                await self._remind(job)
        if not self._stopping:
            await self._act(await self._decided(running))

    async def _decided(self, running: Sequence[Job]) -> list[Decision]:
        """What to do with the queue. Its head is read, and ever more of it while a worker has a place that nobody so
        far can take: jobs that are pinned to a busy worker do not hide those behind them."""
        limit, by_id = HEAD, {job.id: job for job in running}
        while True:
            now = time.time()
            waiting = await self._store.waiting(now, limit, self._left_over)
            queued = [job for job in waiting if not self._declines.waits(job.id)]
            views = self._views(by_id)
            known = [job for job in queued if self._operations.find(job.operation) is not None]
            decisions: list[Decision] = [_unavailable(job) for job in queued if job not in known]
            decisions += dispatcher.assign(known, running, views, now, self._store.steady())
            room = any(view.ready and len(view.open) < view.max_open for view in views)
            if decisions or not room or len(waiting) < limit:
                return decisions
            limit *= 4

    async def _act(self, decisions: Sequence[Decision]) -> None:
        hand_outs = []
        for decision in decisions:
            match decision:
                case AssignTo():
                    hand_outs.append(self._hand_out(decision))
                case Preempt():
                    self._preempt(decision)
                case Refuse():
                    await self._store.refuse(decision.job_id, decision.kind, decision.message, decision.hint)
                case PassOver():
                    await self._store.pass_over(decision.job_ids)
        await asyncio.gather(*hand_outs)

    async def _hand_out(self, decision: AssignTo) -> None:
        """Claim a job and give it to its worker; the claim and the message are one step for everybody else."""
        job = await self._store.claim(decision.job_id, decision.worker, self._jobs.lease_s)
        if job is None:
            return
        worker = self._pool.workers.get(decision.worker)
        try:
            if worker is None or self._stopping:
                raise ChannelClosed("it is gone")
            worker.send(
                Assign(
                    job=job.id,
                    attempt=job.attempt,
                    resolved=job.resolved,
                    recipe=self._operations.get(job.operation).recipe,
                    folder=str(self._checkpoints / job.id / str(job.attempt)),
                    owner=job.owner,
                    checkpoint=job.checkpoint.folder if job.checkpoint is not None else "",
                    previews=self._hub.watched(job.id),
                    alone=job.alone,
                    plan=job.plan or {},
                )
            )
        except ChannelClosed as error:
            await self._give_back(job, AttemptEnd.KILLED, f"The worker {decision.worker} could not take it: {error}.")
        except (ValueError, OverflowError, TypeError) as error:
            log.exception("Job %s cannot be put into words for a worker.", job.id)
            message = f"The job cannot be handed to a worker: {error or type(error).__name__}."
            await self._give_back(job, AttemptEnd.REFUSED, message, "invalid_request")

    def _preempt(self, decision: Preempt) -> None:
        key = decision.job_id, decision.attempt
        worker = self._pool.workers.get(decision.worker)
        if worker is not None and key not in self._leaving:
            self._leaving = {each for each in self._leaving if self._worker_of(*each) is not None} | {key}
            log.info("preempted", extra={"job": decision.job_id, "by": decision.by})
            _say(worker, Pause(job=decision.job_id, attempt=decision.attempt, end=AttemptEnd.PREEMPTED))

    async def _remind(self, job: Job) -> None:
        """A wish that was noted while the job was on its way to a worker reaches it now; the worker takes it twice."""
        if self._worker_of(job.id, job.attempt) is not None:
            await self.withdraw(job)

    async def _expire(self, job: Job) -> None:
        """Give back a job whose worker is silent. Of one that speaks the words are only not written down yet: the disk
        is slow, and the job goes on."""
        worker = self._worker_of(job.id, job.attempt)
        if worker is not None and self._speaks(worker):
            await self._store.heartbeat(worker.id, [(job.id, job.attempt)], self._jobs.lease_s)
            return
        held = f"The lease of {job.attempts[-1].worker if job.attempts else 'its worker'} ran out"
        await self._give_back(job, AttemptEnd.EXPIRED, f"{held}: nothing was heard for {self._jobs.lease_s:g} s.")
        if worker is not None:
            drop(worker, job.id, job.attempt)

    async def _give_back(self, job: Job, end: AttemptEnd, message: str, kind: str = "") -> None:
        try:
            await self._store.release(job.id, job.attempt, end, message, kind=kind)
        except (StaleAttempt, NotFound) as error:
            log.info("not given back: %s", error)
        self.wake()

    # -- what is there

    def _views(self, running: dict[str, Job]) -> list[dispatcher.WorkerView]:
        workers = self._pool.workers
        return [self._view(spec, workers.get(spec.id), running) for spec in self._specs]

    def _view(self, spec: WorkerSpec, worker: WorkerHandle | None, running: dict[str, Job]) -> dispatcher.WorkerView:
        """A worker for the dispatcher. One that was silent for a whole lease gets nothing until it speaks again: it
        would only lose that too."""
        if worker is None:
            return dispatcher.WorkerView(spec.id, spec.device, ready=False)
        return dispatcher.WorkerView(
            id=spec.id,
            device=worker.ready.device if worker.ready else spec.device,
            holds=worker.holds,
            bytes=worker.bytes,
            open=tuple(_opened(*each, running.get(each[0])) for each in sorted(worker.attempts)),
            max_open=self._jobs.max_open,
            ready=worker.state is WorkerState.READY and self._speaks(worker),
            plan=worker.ready.plan if worker.ready else None,
        )

    def _speaks(self, worker: WorkerHandle) -> bool:
        """Whether the worker was heard of within the time of a lease."""
        return time.monotonic() - worker.heard_at < self._jobs.lease_s

    def _worker_of(self, job_id: str, attempt: int | None = None) -> WorkerHandle | None:
        """The worker that has the job (that attempt of it) open."""
        for worker in self._pool.workers.values():
            if any(job == job_id and attempt in (None, number) for job, number in worker.attempts):
                return worker
        return None

    def _watch(self, job_id: str, watched: bool) -> None:
        worker = self._worker_of(job_id)
        for job, attempt in worker.attempts if worker is not None else ():
            if worker is not None and job == job_id:
                _say(worker, Watch(job=job, attempt=attempt, previews=watched))

    def _note_declined(self, job_id: str, worker_id: str) -> None:
        log.info("declined", extra={"job": job_id, "worker": worker_id})
        self._declines.note(job_id)


def _unavailable(job: Job) -> Refuse:
    """The job was accepted by a server that knew its operation, and this one does not."""
    message = f"The operation {job.operation!r} is not here any more."
    hint = "Restart the server with the extension that brings it (extensions.modules), then retry the job."
    return Refuse(job.id, "operation_unavailable", message, hint)


def _opened(job_id: str, attempt: int, job: Job | None) -> OpenJob:
    """What a worker has open; `job` as it runs, None where the store no longer takes it for running."""
    if job is None:
        return OpenJob(job_id, attempt, "", 0)
    return replace(dispatcher.opened(job), attempt=attempt)


def _seen(spec: WorkerSpec, worker: WorkerHandle | None) -> WorkerView:
    if worker is None:
        return WorkerView(spec.id, WorkerState.STARTING, spec.device)
    ready, beat = worker.ready, worker.beat
    return WorkerView(
        id=spec.id,
        state=worker.state,
        device=ready.device if ready else spec.device,
        device_name=ready.device_name if ready else "",
        dtype=ready.dtype if ready else "",
        pid=worker.pid,
        jobs=tuple(sorted(job for job, _ in worker.attempts)),
        holds=tuple(sorted(worker.holds)),
        bytes_free=worker.bytes_free,
        bytes_held=beat.bytes_held if beat else 0,
        rss=beat.rss if beat else 0,
        versions=dict(ready.versions) if ready else {},
    )


def _record(loop: asyncio.Task[None]) -> None:
    """The loop has ended: say so where it did not end by itself."""
    if not loop.cancelled() and (error := loop.exception()):
        log.critical("Handing out jobs has ended.", exc_info=error)


def _say(worker: WorkerHandle, message: ToWorker) -> None:
    """Say something to a worker; for one that is gone its exit will settle everything."""
    try:
        worker.send(message)
    except ChannelClosed:
        log.debug("the worker %s is gone already", worker.id)

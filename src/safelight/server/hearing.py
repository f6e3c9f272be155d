"""What workers say, written down: each worker's messages in order, those of different jobs side by side.

What has piled up while the store was writing, or within a moment where it is mere progress, is written together: a run
of events of one attempt is one write. A word of a stale attempt is refused by the store, and the worker is told to drop
the attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from safelight.core.events import UNSTORED, Event, EventKind
from safelight.core.names import new_id
from safelight.core.states import AttemptEnd
from safelight.errors import NotFound, SafelightError, StaleAttempt
from safelight.jobs.ledger import Clock
from safelight.jobs.records import Artifact, Checkpoint
from safelight.jobs.store import NewEvent, Store
from safelight.server.hub import Hub
from safelight.workers.channel import ChannelClosed
from safelight.workers.deaths import Released
from safelight.workers.messages import (
    Broken,
    Cancel,
    Checkpointed,
    Declined,
    Ended,
    Happened,
    Heartbeat,
    Hello,
    Planned,
    Profile,
    Ready,
    Saved,
    Succeeded,
    ToServer,
    ToWorker,
)
from safelight.workers.pool import Limits

log = logging.getLogger(__name__)

Told = Planned | Saved | Checkpointed | Succeeded | Ended | Declined
AboutAttempt = Happened | Told


class Speaker(Protocol):
    """A worker, as it is heard and answered (workers.handle.WorkerHandle)."""

    attempts: set[tuple[str, int]]

    @property
    def id(self) -> str:
        """Its name."""
        ...

    def send(self, message: ToWorker) -> None:
        """Say something to it; ChannelClosed where it is gone."""
        ...

    def kill(self, hung: str = "") -> None:
        """End it at once."""
        ...


GATHER_S = 0.05
"""News of progress is written down at most so much later."""

PROGRESS = (Happened, Profile)
"""What may wait so long; results, ends, plans, checkpoints and signs of life do not."""


class _Line:
    """One worker's messages that wait to be written, the task that writes them, and since when (tick) it has not said
    that it has an attempt which was given to it."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[ToServer | None] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None
        self.unsaid: dict[tuple[str, int], float] = {}

    async def gathered(self) -> list[ToServer | None]:
        """All that waits, at least one. Told progress waits a moment for more of it: a commit of many costs as one."""
        batch = [await self.waiting.get()]
        if isinstance(batch[0], PROGRESS):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    while isinstance(batch[-1], PROGRESS):
                        batch.append(await self.waiting.get())
        while not self.waiting.empty():
            batch.append(self.waiting.get_nowait())
        return batch


class Hearing:
    """Writes down what workers say. `changed`: called when the queue or a worker should be looked at again.

    `declined(job_id, worker_id)`: told of jobs that a worker could not take now.
    """

    def __init__(self, store: Store, hub: Hub, *, lease_s: float, limits: Limits, changed: Callable[[], None],
                 declined: Callable[[str, str], None], tick: Clock = time.monotonic) -> None:  # fmt: skip
        self._store = store
        self._hub = hub
        self._lease_s = lease_s
        self._limits = limits
        self._tick = tick
        self._changed = changed
        self._declined = declined
        self._lines: dict[Speaker, _Line] = {}

    async def on_message(self, worker: Speaker, message: ToServer) -> None:
        """Take a message; it is written in its turn."""
        line = self._lines.get(worker)
        if line is None:
            line = self._lines[worker] = _Line()
            line.task = asyncio.create_task(self._write_down(worker, line), name=f"what {worker.id} says")
        elif line.task is not None and line.task.done():
            line.task.result()
        line.waiting.put_nowait(message)

    async def on_exit(self, worker: Speaker, released: Sequence[Released]) -> None:
        """A worker has ended: write down its last words, then release what it had open."""
        line = self._lines.pop(worker, None)
        if line is not None and line.task is not None:
            line.waiting.put_nowait(None)
            await asyncio.wait({line.task})
            if error := line.task.exception():
                log.error("What the worker %s said could not be written down.", worker.id, exc_info=error)
        for each in released:
            try:
                await self._store.release(
                    each.job, each.attempt, each.end, each.message, kind="worker_gone", trace=each.trace,
                    alone=each.alone,
                )  # fmt: skip
            except (StaleAttempt, NotFound) as error:
                log.info("not released: %s", error)
            except (SafelightError, OSError):
                log.exception("Job %s cannot be given back now; the end of its lease does it.", each.job)
        self._changed()

    async def _write_down(self, worker: Speaker, line: _Line) -> None:
        """Until the line's end. What cannot be stored ends the worker: its word is lost, so its jobs begin anew."""
        broken = False
        while True:
            batch = await line.gathered()
            messages = [each for each in batch if each is not None]
            try:
                if not broken:
                    await self._batch(worker, line, messages)
            except (SafelightError, OSError, ValueError):
                log.exception("What the worker %s says cannot be stored; it is ended.", worker.id)
                broken = True
                worker.kill()
            if len(messages) < len(batch):
                return

    async def _batch(self, worker: Speaker, line: _Line, messages: Sequence[ToServer]) -> None:
        by_attempt: dict[tuple[str, int], list[AboutAttempt]] = {}
        beat: Heartbeat | None = None
        for message in messages:
            match message:
                case Happened() | Planned() | Saved() | Checkpointed() | Succeeded() | Ended() | Declined():
                    by_attempt.setdefault((message.job, message.attempt), []).append(message)
                case Heartbeat():
                    beat = message
                case Profile():
                    log.debug("measured by the worker %s: %s", worker.id, message)
                case Ready():
                    self._changed()
                case Broken():
                    log.error("The worker %s is broken: %s\n%s", worker.id, message.message, message.trace)
                case Hello():
                    log.debug("the worker %s said hello twice", worker.id)
        await asyncio.gather(*(self._attempt(worker, *key, said) for key, said in by_attempt.items()))
        if beat is not None:
            await self._beat(worker, line, beat)

    async def _attempt(self, worker: Speaker, job: str, attempt: int, messages: Sequence[AboutAttempt]) -> None:
        """What was said of one attempt, in order."""
        try:
            events: list[NewEvent] = []
            for message in messages:
                if isinstance(message, Happened):
                    self._happened(message, events)
                    continue
                await self._flush(job, attempt, events)
                await self._told(worker, message)
            await self._flush(job, attempt, events)
        except (StaleAttempt, NotFound) as error:
            log.info("the worker %s drops a stale attempt: %s", worker.id, error)
            drop(worker, job, attempt)

    def _happened(self, message: Happened, events: list[NewEvent]) -> None:
        kind = EventKind(message.kind)
        if kind in UNSTORED:
            self._hub.unstored(Event(message.job, kind, message.data, at=time.time()))
        else:
            events.append((kind, message.data))

    async def _flush(self, job: str, attempt: int, events: list[NewEvent]) -> None:
        if events:
            await self._store.append(job, attempt, events)
            events.clear()

    async def _told(self, worker: Speaker, message: Told) -> None:
        job, attempt = message.job, message.attempt
        match message:
            case Planned():
                await self._store.set_plan(job, attempt, message.plan)
            case Saved():
                await self._store.add_artifact(_artifact(message), attempt)
            case Checkpointed():
                checkpoint = Checkpoint(job, attempt, message.folder, message.step, time.time())
                replaced = await self._store.set_checkpoint(checkpoint)
                if replaced is not None and replaced.folder != message.folder:
                    await asyncio.to_thread(shutil.rmtree, Path(replaced.folder), ignore_errors=True)
            case Succeeded():
                await self._store.succeed(job, attempt, message.result, message.timings, message.peak_bytes)
                self._changed()
            case Ended():
                await self._store.release(
                    job, attempt, AttemptEnd(message.end), message.message, kind=message.kind, hint=message.hint,
                    trace=message.trace,
                )  # fmt: skip
                self._changed()
            case Declined():
                self._declined(job, worker.id)
                await self._store.release(job, attempt, AttemptEnd.DECLINED, message.reason)
                self._changed()

    async def _beat(self, worker: Speaker, line: _Line, beat: Heartbeat) -> None:
        """Renew the leases of what the worker has open; it drops what is no longer its own.

        What was given to it counts although it does not say so yet: it reads its orders between two passes, and one
        pass may outlast a lease. But no pass takes longer than one that hangs: after that the order counts as lost.
        """
        now = self._tick()
        line.unsaid = {each: line.unsaid.get(each, now) for each in worker.attempts - {*beat.open}}
        patience = max(self._lease_s, self._limits.hang_s, self._limits.hang_factor * beat.pass_s)
        for each in [each for each, since in line.unsaid.items() if now - since > patience]:
            await self._lost(worker, *each, patience)
        held = sorted({*beat.open, *worker.attempts})
        for job, attempt in await self._store.heartbeat(worker.id, held, self._lease_s):
            drop(worker, job, attempt)

    async def _lost(self, worker: Speaker, job: str, attempt: int, patience: float) -> None:
        """Give an attempt back that its worker has not, and tell it so first: the order may still be on its way."""
        drop(worker, job, attempt)
        message = f"The worker {worker.id} speaks, and for {patience:g} s not of this job: it was lost on the way."
        with contextlib.suppress(StaleAttempt, NotFound):
            await self._store.release(job, attempt, AttemptEnd.EXPIRED, message)
        self._changed()


def drop(worker: Speaker, job: str, attempt: int) -> None:
    """Tell a worker to stop an attempt and forget it; one that is gone has done so."""
    worker.attempts.discard((job, attempt))
    try:
        worker.send(Cancel(job=job, attempt=attempt))
    except ChannelClosed:
        log.debug("the worker %s is gone already", worker.id)


def _artifact(saved: Saved) -> Artifact:
    return Artifact(
        id=new_id(),
        job_id=saved.job,
        index=saved.index,
        owner="",
        sha256=saved.sha256,
        media_type=saved.media_type,
        bytes=saved.bytes,
        width=saved.width,
        height=saved.height,
        seed=saved.seed,
    )

"""The store's methods over any database: each is one act in one transaction, which a subclass carries out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from safelight.core.events import Event
from safelight.core.states import AttemptEnd, JobState
from safelight.jobs import acts
from safelight.jobs.lifecycle import Ending, Wishes
from safelight.jobs.records import (
    Artifact,
    ArtifactFilter,
    Checkpoint,
    Delivery,
    DeliveryState,
    Filter,
    Finished,
    Job,
    NewJob,
    Upload,
)
from safelight.jobs.rows import Now, Rows
from safelight.jobs.steady import KEY, SteadyClock
from safelight.jobs.store import Listener, NewEvent, Store

T = TypeVar("T")
Clock = Callable[[], float]


class Ledger(Store, ABC):
    """Implements `Store` but for open and close, over `write` and `read`. The methods' promises stand there."""

    def __init__(self, wall: Clock, tick: Clock) -> None:
        """`wall`: seconds since the epoch. `tick`: monotonic seconds, which leases count."""
        self._wall = wall
        self._tick = tick
        self._steady = SteadyClock()
        self._listeners: list[Listener] = []

    @abstractmethod
    async def write(self, act: Callable[[Rows], T]) -> T:
        """Carry out `act` in a transaction: committed and synced on return, undone where it raises."""

    @abstractmethod
    async def read(self, look: Callable[[Rows], T]) -> T:
        """Let `look` see one consistent state."""

    async def search(self, look: Callable[[Rows], T]) -> T:
        """As `read`, for what may take long because people ask it of all that is kept; no `read` waits for it."""
        return await self.read(look)

    def now(self) -> Now:
        """The clocks."""
        tick = self._tick()
        return Now(self._wall(), tick, self._steady.at(tick))

    def steady(self) -> float:
        """See Store."""
        return self.now().steady

    async def keep_time(self) -> None:
        """See Store."""
        now = self.now()
        await self.put_note(KEY, self._steady.note(now.wall, now.tick))

    async def resume_time(self) -> None:
        """For `open`: go on from the steady clock that was written down last."""
        kept = (await self.notes(KEY)).get(KEY)
        self._steady.resume(kept, self._wall(), self._tick())
        await self.keep_time()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See Store."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, events: Sequence[Event]) -> None:
        """Hand committed events to all who listen."""
        if events:
            for listener in tuple(self._listeners):
                listener(events)

    async def submit(self, job: NewJob, max_queued: int = 0) -> tuple[Job, bool]:
        """See Store."""
        return await self.write(lambda rows: acts.submit(rows, job, max_queued))

    async def repeated(self, job: NewJob) -> Job | None:
        """See Store."""
        return await self.read(lambda rows: acts.repeated(rows, job))

    async def get(self, job_id: str, owner: str | None = None) -> Job:
        """See Store."""
        return await self.read(lambda rows: acts.get(rows, job_id, owner))

    async def jobs(self, wanted: Filter) -> list[Job]:
        """See Store."""
        return await self.search(lambda rows: acts.jobs(rows, wanted))

    async def newest(self) -> int:
        """See Store."""
        return await self.read(lambda rows: rows.newest())

    async def waiting(self, now: float, limit: int = 200, after: int = 0) -> list[Job]:
        """See Store."""
        return await self.read(lambda rows: rows.waiting(now, limit, after))

    async def running(self) -> list[Job]:
        """See Store."""
        return await self.read(lambda rows: rows.running())

    async def counts(self) -> dict[JobState, int]:
        """See Store."""
        return await self.read(lambda rows: rows.counts())

    async def claim(self, job_id: str, worker: str, lease_s: float) -> Job | None:
        """See Store."""
        return await self.write(lambda rows: acts.claim(rows, job_id, worker, lease_s))

    async def heartbeat(self, worker: str, held: Sequence[tuple[str, int]], lease_s: float) -> list[tuple[str, int]]:
        """See Store."""
        return await self.write(lambda rows: acts.heartbeat(rows, worker, held, lease_s))

    async def expired(self) -> list[Job]:
        """See Store."""
        return await self.read(lambda rows: rows.expired())

    async def release(self, job_id: str, attempt: int, end: AttemptEnd, message: str, *, kind: str = "",
                      hint: str = "", trace: str = "", alone: bool = False) -> Job:  # fmt: skip
        """See Store."""
        ending = Ending(end, message, kind, hint, trace, alone)
        return await self.write(lambda rows: acts.release(rows, job_id, attempt, ending))

    async def refuse(self, job_id: str, kind: str, message: str, hint: str = "") -> Job:
        """See Store."""
        return await self.write(lambda rows: acts.refuse(rows, job_id, kind, message, hint))

    async def succeed(self, job_id: str, attempt: int, result: dict[str, Any], timings: dict[str, float],
                      peak_bytes: int) -> Job:  # fmt: skip
        """See Store."""
        return await self.write(lambda rows: acts.succeed(rows, job_id, attempt, result, timings, peak_bytes))

    async def append(self, job_id: str, attempt: int, events: Sequence[NewEvent]) -> list[Event]:
        """See Store."""
        return await self.write(lambda rows: acts.append(rows, job_id, attempt, events))

    async def add_artifact(self, artifact: Artifact, attempt: int) -> tuple[Artifact, Event | None]:
        """See Store."""
        return await self.write(lambda rows: acts.add_artifact(rows, artifact, attempt))

    async def set_checkpoint(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """See Store."""
        return await self.write(lambda rows: acts.set_checkpoint(rows, checkpoint))

    async def set_plan(self, job_id: str, attempt: int, plan: dict[str, Any]) -> Job:
        """See Store."""
        return await self.write(lambda rows: acts.set_plan(rows, job_id, attempt, plan))

    async def request_cancel(self, job_id: str, owner: str | None = None) -> Job:
        """See Store."""
        return await self.write(lambda rows: acts.request_cancel(rows, job_id, owner))

    async def request_pause(self, job_id: str, owner: str | None = None) -> Job:
        """See Store."""
        return await self.write(lambda rows: acts.request_pause(rows, job_id, owner))

    async def resume(self, job_id: str, owner: str | None = None) -> Job:
        """See Store."""
        return await self.write(lambda rows: acts.resume(rows, job_id, owner))

    async def update(self, job_id: str, owner: str | None = None, *, priority: int | None = None,
                     tags: tuple[str, ...] | None = None, pinned: bool | None = None,
                     group: str | None = None) -> Job:  # fmt: skip
        """See Store."""
        wishes = Wishes(priority, tags, pinned, group)
        return await self.write(lambda rows: acts.update(rows, job_id, owner, wishes))

    async def pass_over(self, job_ids: Sequence[str]) -> None:
        """See Store."""
        await self.write(lambda rows: rows.pass_over(job_ids))

    async def events(self, job_id: str, after: int = 0) -> list[Event]:
        """See Store."""
        return await self.read(lambda rows: rows.events(job_id, after))

    async def events_of(self, owner: str | None, after: int = 0, limit: int = 1000) -> list[Event]:
        """See Store."""
        return await self.read(lambda rows: rows.events_of(owner, after, limit))

    async def artifact(self, artifact_id: str, owner: str | None = None) -> Artifact:
        """See Store."""
        return await self.read(lambda rows: acts.artifact(rows, artifact_id, owner))

    async def artifacts(self, wanted: ArtifactFilter) -> list[Artifact]:
        """See Store."""
        return await self.search(lambda rows: acts.artifacts(rows, wanted))

    async def update_artifact(self, artifact_id: str, owner: str | None = None, *, favourite: bool | None = None,
                              binned: bool | None = None) -> Artifact:  # fmt: skip
        """See Store."""
        return await self.write(lambda rows: acts.update_artifact(rows, artifact_id, owner, favourite, binned))

    async def add_upload(self, upload: Upload) -> Upload:
        """See Store."""
        return await self.write(lambda rows: acts.add_upload(rows, upload))

    async def upload(self, upload_id: str, owner: str | None = None) -> Upload:
        """See Store."""
        return await self.read(lambda rows: acts.upload(rows, upload_id, owner))

    async def undelivered(self, after: int = 0, limit: int = 1000) -> list[Delivery]:
        """See Store."""
        return await self.read(lambda rows: rows.undelivered(after, limit))

    async def tried(self, delivery: Delivery, state: DeliveryState, said: str = "") -> Delivery:
        """See Store."""
        return await self.write(lambda rows: acts.tried(rows, delivery.event.sequence, state, said))

    async def put_note(self, key: str, value: dict[str, Any]) -> None:
        """See Store."""
        await self.write(lambda rows: rows.put_note(key, value))

    async def notes(self, prefix: str) -> dict[str, dict[str, Any]]:
        """See Store."""
        return await self.read(lambda rows: rows.notes(prefix))

    async def finished(self) -> list[Finished]:
        """See Store."""
        return await self.search(lambda rows: rows.finished())

    async def forget(self, job_ids: Iterable[str]) -> int:
        """See Store."""
        return await self.write(lambda rows: acts.forget(rows, job_ids))

    async def forget_uploads(self, before: float) -> int:
        """See Store."""
        return await self.write(lambda rows: rows.forget_uploads(before))

    async def empty_bin(self, before: float) -> int:
        """See Store."""
        return await self.write(lambda rows: rows.empty_bin(before))

    async def named(self, files: Iterable[str]) -> set[str]:
        """See Store."""
        return await self.read(lambda rows: acts.named(rows, files))

    async def unfinished(self, job_ids: Iterable[str]) -> set[str]:
        """See Store."""
        return await self.read(lambda rows: acts.unfinished(rows, job_ids))

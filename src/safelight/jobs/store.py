"""The store's protocol: what durability means, free of any database's ways. One conformance suite holds all stores.

Every method is atomic, and a write has happened for good when it returns (committed and synced). Methods that a
worker's word leads to carry the attempt's number and raise StaleAttempt where it is not the current one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from safelight.core.events import Event, EventKind
from safelight.core.states import AttemptEnd, JobState
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

NewEvent = tuple[EventKind, dict[str, Any]]

Listener = Callable[[Sequence[Event]], None]
"""Is told of events, in commit order, once they are committed. Called in the store's event loop; must not block."""


class Store(Protocol):
    """Jobs, their attempts, events, artifacts and uploads, kept over any crash."""

    async def open(self) -> None:
        """Make ready; StoreUnusable where that cannot be. Leases of an earlier server are void from here on."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of the files."""
        ...

    def steady(self) -> float:
        """The time on the clock that ages are counted on (jobs.steady)."""
        ...

    async def keep_time(self) -> None:
        """Write the steady clock down, so that the next server goes on from here. `open` does it too."""
        ...

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` of all events stored from now on, before the writes that caused them return; the answer
        ends it."""
        ...

    # -- submitting and reading

    async def submit(self, job: NewJob, max_queued: int = 0) -> tuple[Job, bool]:
        """Accept a job: (the job, whether it is new). The event `queued` {position} is stored with it.

        The same owner's idempotency key or id with an equal fingerprint gives the job that is there; with another,
        Conflict. QueueFull at `max_queued` queued jobs (0: no limit). NotFound where `retry_of` was forgotten.
        """
        ...

    async def repeated(self, job: NewJob) -> Job | None:
        """The job that `submit` would give as the one that is there already, or None. Conflict as there."""
        ...

    async def get(self, job_id: str, owner: str | None = None) -> Job:
        """The whole record; NotFound, also where `owner` is given and is not its owner."""
        ...

    async def jobs(self, wanted: Filter) -> list[Job]:
        """Newest first, without attempts, artifacts and checkpoint. NotFound where `wanted.before` is no job's id."""
        ...

    async def newest(self) -> int:
        """The number of the job accepted last, forgotten or not, in order of acceptance; 0 before the first."""
        ...

    async def waiting(self, now: float, limit: int = 200, after: int = 0) -> list[Job]:
        """Queued jobs that may start now, in the dispatcher's order: priority, then fair rotation between owners (each
        owner's first, then each one's second, …; among these the owner served longest ago), then age. `after`: only
        those that were accepted after the one of that number (`newest`)."""
        ...

    async def running(self) -> list[Job]:
        """Running jobs, whole: their last attempt tells the worker."""
        ...

    async def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state. Cheap: `position` and `/metrics` read it often."""
        ...

    # -- the life of an attempt

    async def claim(self, job_id: str, worker: str, lease_s: float) -> Job | None:
        """Start the next attempt under a lease: the job as it now stands, or None if it is no longer queued."""
        ...

    async def heartbeat(self, worker: str, held: Sequence[tuple[str, int]], lease_s: float) -> list[tuple[str, int]]:
        """Renew the leases of (job, attempt); returns those that are no longer valid, which the worker must drop."""
        ...

    async def expired(self) -> list[Job]:
        """Running jobs whose lease has run out (monotonic time; leases of an earlier server count as run out)."""
        ...

    async def release(self, job_id: str, attempt: int, end: AttemptEnd, message: str, *, kind: str = "",
                      hint: str = "", trace: str = "", alone: bool = False) -> Job:  # fmt: skip
        """End an attempt without a result. Charged ends count; at their limit (core.states) the job fails, else it
        is queued again with a `retry` event. REFUSED fails it at once; CANCELLED cancels it; PAUSED pauses it where
        its owner still wants that. A cancel or pause asked for meanwhile wins over going back to the queue. SUSPECT,
        CRASHED or `alone` makes it run alone until its next checkpoint; SUSPECT too often alone fails it as poison.
        The last attempt that its errors leave it begins anew, where the one before got no further than its checkpoint.
        """
        ...

    async def refuse(self, job_id: str, kind: str, message: str, hint: str = "") -> Job:
        """Fail a job that no attempt can help (its worker is gone, its deadline is past). Not queued: unchanged."""
        ...

    async def succeed(self, job_id: str, attempt: int, result: dict[str, Any], timings: dict[str, float],
                      peak_bytes: int) -> Job:  # fmt: skip
        """The job is done: `succeeded` is stored, its checkpoint forgotten."""
        ...

    async def append(self, job_id: str, attempt: int, events: Sequence[NewEvent]) -> list[Event]:
        """Store events of the running attempt, numbered in order. ValueError for kinds that are never stored and for
        those that only the end of a job brings."""
        ...

    async def add_artifact(self, artifact: Artifact, attempt: int) -> tuple[Artifact, Event | None]:
        """A finished file; with its `artifact` event. A second one for the same (job, index) is the first again, and
        no event: the file was finished before a crash."""
        ...

    async def set_checkpoint(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """The job can go on from here, and is no longer a suspect; returns the one it replaces."""
        ...

    async def set_plan(self, job_id: str, attempt: int, plan: dict[str, Any]) -> Job:
        """Keep how a deterministic job computes: the first plan stays, a later one is not taken. The job as it then
        stands, with the plan that counts."""
        ...

    # -- the owner's wishes

    async def request_cancel(self, job_id: str, owner: str | None = None) -> Job:
        """Queued or paused: cancelled at once. Running: `cancel_requested`. Over: unchanged."""
        ...

    async def request_pause(self, job_id: str, owner: str | None = None) -> Job:
        """Queued: paused at once. Running: `pause_requested`. Otherwise Conflict."""
        ...

    async def resume(self, job_id: str, owner: str | None = None) -> Job:
        """Paused: queued again. Running with a pause asked for: that wish is withdrawn. Otherwise Conflict."""
        ...

    async def update(self, job_id: str, owner: str | None = None, *, priority: int | None = None,
                     tags: tuple[str, ...] | None = None, pinned: bool | None = None,
                     group: str | None = None) -> Job:  # fmt: skip
        """Change priority, tags, whether retention leaves it alone, or its group (empty: it leaves its group)."""
        ...

    async def pass_over(self, job_ids: Sequence[str]) -> None:
        """The dispatcher let others go before these."""
        ...

    # -- events, artifacts, uploads

    async def events(self, job_id: str, after: int = 0) -> list[Event]:
        """A job's stored events with a number above `after`, in order."""
        ...

    async def events_of(self, owner: str | None, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events of all the owner's jobs with a sequence above `after`, in commit order."""
        ...

    async def artifact(self, artifact_id: str, owner: str | None = None) -> Artifact:
        """NotFound, also for another owner."""
        ...

    async def artifacts(self, wanted: ArtifactFilter) -> list[Artifact]:
        """Newest first, keyset pages. NotFound where `wanted.before` is no artifact's id."""
        ...

    async def update_artifact(self, artifact_id: str, owner: str | None = None, *, favourite: bool | None = None,
                              binned: bool | None = None) -> Artifact:  # fmt: skip
        """Change whether it is a favourite, or put it in the bin or back; None leaves it. What lies in the bin
        already keeps the time since when. NotFound, also for another owner."""
        ...

    async def add_upload(self, upload: Upload) -> Upload:
        """Keep an upload's facts; the same content of the same owner again makes it young again."""
        ...

    async def upload(self, upload_id: str, owner: str | None = None) -> Upload:
        """NotFound, also for another owner."""
        ...

    # -- webhooks

    async def undelivered(self, after: int = 0, limit: int = 1000) -> list[Delivery]:
        """What webhooks have still to hear of, of events with a sequence above `after`, oldest first, at most `limit`.
        Put down with the event itself: none is lost."""
        ...

    async def tried(self, delivery: Delivery, state: DeliveryState, said: str = "") -> Delivery:
        """Note a try and what came of it. The delivery as it now stands; NotFound where its job was forgotten."""
        ...

    # -- what was measured

    async def put_note(self, key: str, value: dict[str, Any]) -> None:
        """Keep a small JSON object under a key (`clock`: see jobs.steady); the last one wins."""
        ...

    async def notes(self, prefix: str) -> dict[str, dict[str, Any]]:
        """All kept objects whose key begins with `prefix`."""
        ...

    # -- retention

    async def finished(self) -> list[Finished]:
        """Jobs that are over, the one that ended first in front."""
        ...

    async def forget(self, job_ids: Iterable[str]) -> int:
        """Remove jobs with all that is stored about them; those not over or pinned (see Finished) stay. How many
        went."""
        ...

    async def forget_uploads(self, before: float) -> int:
        """Remove uploads last given before that time (steady) which no job reads. How many went."""
        ...

    async def empty_bin(self, before: float) -> int:
        """Remove artifacts that lie in the bin since before that time (steady), of jobs that are over and that nobody
        pinned. How many went."""
        ...

    async def named(self, files: Iterable[str]) -> set[str]:
        """Those of the SHA-256 that an artifact, an upload or a job's `files` names: their files must stay."""
        ...

    async def unfinished(self, job_ids: Iterable[str]) -> set[str]:
        """Those of the ids whose jobs are there and not over: their checkpoints must stay."""
        ...

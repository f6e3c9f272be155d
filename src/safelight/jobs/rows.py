"""What a ledger needs of a database, in its own words: rows put down and looked up, and no decisions.

A `Rows` is one transaction seen from inside: synchronous, all or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from safelight.core.events import Event
from safelight.core.states import JobState
from safelight.jobs.records import Artifact, ArtifactFilter, Delivery, Filter, Finished, Job, Upload, Webhook
from safelight.jobs.store import NewEvent


@dataclass(frozen=True)
class Now:
    """The clocks as an act sees them. `wall`: seconds since the epoch. `tick`: monotonic seconds. `steady`: what ages
    are counted on (jobs.steady)."""

    wall: float
    tick: float
    steady: float


@dataclass(frozen=True)
class Standing:
    """The little of a job that fencing needs."""

    owner: str
    state: JobState
    attempt: int
    webhook: Webhook | None


class Rows(Protocol):
    """One transaction's rows."""

    now: Now

    # -- jobs

    def job(self, job_id: str) -> Job | None:
        """The whole record."""
        ...

    def keyed(self, owner: str, key: str) -> Job | None:
        """The owner's job of that idempotency key."""
        ...

    def standing(self, job_id: str) -> Standing | None:
        """Cheaper than `job`."""
        ...

    def insert(self, job: Job, key: str | None, files: Sequence[str]) -> None:
        """Put down a new job."""
        ...

    def save(self, before: Job, after: Job) -> None:
        """Put down what differs: the job's own fields, its last attempt, its checkpoint; and when it ended, on the
        steady clock."""
        ...

    def queued_from(self, priority: int) -> int:
        """How many queued jobs have at least that priority. O(1) in the number of jobs."""
        ...

    def counts(self) -> dict[JobState, int]:
        """Jobs by state. O(1) in the number of jobs."""
        ...

    def jobs(self, wanted: Filter) -> list[Job]:
        """See Store.jobs; the caller made sure that `wanted.before` is there."""
        ...

    def newest(self) -> int:
        """See Store.newest."""
        ...

    def waiting(self, now: float, limit: int, after: int) -> list[Job]:
        """See Store.waiting."""
        ...

    def running(self) -> list[Job]:
        """Running jobs, whole."""
        ...

    def served(self, owner: str) -> None:
        """The owner's turn came: now is the time it was last served."""
        ...

    def pass_over(self, job_ids: Sequence[str]) -> None:
        """Count it for those still queued."""
        ...

    # -- leases

    def grant(self, job_id: str, attempt: int, worker: str, until: float) -> None:
        """A lease of this server, up to `until` (tick)."""
        ...

    def renew(self, job_id: str, attempt: int, worker: str, until: float) -> bool:
        """Whether there is such a lease of this server; if so it now lasts until then."""
        ...

    def end_lease(self, job_id: str) -> None:
        """Nobody holds the job."""
        ...

    def expired(self) -> list[Job]:
        """Running jobs without a lease of this server that lasts, whole."""
        ...

    # -- events

    def add_events(self, job_id: str, owner: str, events: Sequence[NewEvent]) -> list[Event]:
        """Number and put down."""
        ...

    def events(self, job_id: str, after: int) -> list[Event]:
        """See Store.events."""
        ...

    def events_of(self, owner: str | None, after: int, limit: int) -> list[Event]:
        """See Store.events_of."""
        ...

    # -- artifacts, uploads, notes

    def add_artifact(self, artifact: Artifact) -> None:
        """Put down; the caller made sure that there is none for the same (job, index)."""
        ...

    def artifact_at(self, job_id: str, index: int) -> Artifact | None:
        """The job's artifact of that index."""
        ...

    def artifact(self, artifact_id: str) -> Artifact | None:
        """By its id."""
        ...

    def artifacts(self, wanted: ArtifactFilter) -> list[Artifact]:
        """See Store.artifacts; the caller made sure that `wanted.before` is there."""
        ...

    def save_artifact(self, artifact: Artifact) -> None:
        """Put down whether it is a favourite and since when it lies in the bin, on the steady clock too."""
        ...

    def put_upload(self, upload: Upload) -> None:
        """Put down, or replace the one of the same owner and id; and when, on the steady clock."""
        ...

    def upload(self, upload_id: str, owner: str | None) -> Upload | None:
        """By its id and owner (None: any)."""
        ...

    def put_note(self, key: str, value: dict[str, Any]) -> None:
        """Put down, or replace."""
        ...

    def notes(self, prefix: str) -> dict[str, dict[str, Any]]:
        """By the beginning of their keys."""
        ...

    # -- deliveries

    def add_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        """Put down; their events were, in this transaction."""
        ...

    def delivery(self, sequence: int) -> Delivery | None:
        """That of the event of this sequence."""
        ...

    def undelivered(self, after: int, limit: int) -> list[Delivery]:
        """See Store.undelivered."""
        ...

    def save_delivery(self, delivery: Delivery) -> None:
        """Put down its state, its tries, and how the last one failed."""
        ...

    # -- retention

    def finished(self) -> list[Finished]:
        """See Store.finished."""
        ...

    def forget(self, job_id: str) -> bool:
        """Remove a job that is over and not pinned; whether it was."""
        ...

    def forget_uploads(self, before: float) -> int:
        """See Store.forget_uploads."""
        ...

    def empty_bin(self, before: float) -> int:
        """See Store.empty_bin."""
        ...

    def is_named(self, sha256: str) -> bool:
        """Whether an artifact, an upload or a job's files name it."""
        ...

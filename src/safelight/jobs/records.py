"""What a store keeps: jobs, attempts, artifacts, uploads, checkpoints, deliveries."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from safelight.core.events import Event
from safelight.core.states import AttemptEnd, JobState


@dataclass(frozen=True)
class Webhook:
    """Who is to be told of a job's events: an address, and the kinds of events (values of EventKind)."""

    url: str
    events: tuple[str, ...]


@dataclass(frozen=True)
class NewJob:
    """What is submitted. `request`: as asked; `resolved`: complete; both JSON objects.

    `model_key`: which weights it runs on (for the dispatcher). `idempotency_key` and `fingerprint` (a hash of the
    request's body) make a repeated submission the same job. `not_before`: seconds since the epoch,
    compared with the wall clock as it stands; `deadline`: on the steady clock (jobs.steady), since it was asked for as
    a time from then on.
    `bytes_needed`: of memory, a guess; `weights_bytes` of them are weights, which jobs of one model share.
    `files`: SHA-256 of the kept files it reads (uploads, other jobs' artifacts), which stay as long as the job does.
    `group`: what belongs together, in the client's words (a grid).
    """

    id: str
    owner: str
    operation: str
    request: dict[str, Any]
    resolved: dict[str, Any]
    fingerprint: str
    model_key: str = ""
    idempotency_key: str | None = None
    priority: int = 0
    tags: tuple[str, ...] = ()
    worker: str | None = None
    not_before: float | None = None
    deadline: float | None = None
    retry_of: str | None = None
    bytes_needed: int = 0
    weights_bytes: int = 0
    files: tuple[str, ...] = ()
    group: str | None = None
    webhook: Webhook | None = None


@dataclass(frozen=True)
class Attempt:
    """One try. `number` from 1 is the fencing token: writers carry it, stale ones are refused."""

    number: int
    worker: str
    started_at: float
    ended_at: float | None = None
    end: AttemptEnd | None = None
    kind: str = ""
    message: str = ""
    trace: str = ""


@dataclass(frozen=True)
class Artifact:
    """A finished file of a job. `sha256` names the content-addressed file under the artifacts folder.

    `favourite`: retention leaves its job alone. `binned_at`: since when it lies in the bin, if it does.
    """

    id: str
    job_id: str
    index: int
    owner: str
    sha256: str
    media_type: str
    bytes: int
    width: int
    height: int
    seed: int
    created_at: float = 0.0
    favourite: bool = False
    binned_at: float | None = None


@dataclass(frozen=True)
class Upload:
    """A picture a client gave us, content-addressed: its id is its SHA-256."""

    id: str
    owner: str
    media_type: str
    bytes: int
    width: int
    height: int
    created_at: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """Where a job can go on: a folder of safetensors under the data folder, written by `attempt`."""

    job_id: str
    attempt: int
    folder: str
    step: int
    at: float


class DeliveryState(StrEnum):
    """Of an event that a webhook is to hear of."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    """Given up after the last try."""


@dataclass(frozen=True)
class Delivery:
    """A stored event that a job's webhook is to hear of, at least once. `said`: how the last try failed, in words.

    `tried_at`: of the last try, seconds since the epoch.
    """

    event: Event
    url: str
    state: DeliveryState = DeliveryState.PENDING
    tries: int = 0
    said: str = ""
    tried_at: float | None = None

    @property
    def id(self) -> str:
        """The same in each try, and never that of another event: who is told twice can tell."""
        return f"{self.event.job_id}-{self.event.sequence}"


@dataclass(frozen=True)
class Job:
    """The durable record. Times are seconds since the epoch, UTC; `deadline` on the steady clock (jobs.steady).

    `position`: queued jobs of its priority and above, itself included, when it was last queued. `started_at`: of the
    first attempt. `pinned`: retention leaves it alone.
    `attempt`: number of the current or last attempt, 0 before the first. `charged_errors`, `charged_crashes`: what
    counts against it. `alone`: a suspect, runs alone until its next checkpoint. `passed_over`: how often the
    dispatcher let another go first. `cancel_requested`, `pause_requested`: the owner's wish while it runs.
    `timings`: seconds per stage. `failure`: {kind, message, hint, trace}. `plan`: how the first attempt of a
    deterministic job computed, which later ones keep to; None until it has said so. `artifacts`: binned ones too.
    """

    id: str
    owner: str
    operation: str
    state: JobState
    request: dict[str, Any]
    resolved: dict[str, Any]
    priority: int
    tags: tuple[str, ...]
    created_at: float
    model_key: str = ""
    worker: str | None = None
    not_before: float | None = None
    deadline: float | None = None
    retry_of: str | None = None
    bytes_needed: int = 0
    weights_bytes: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    attempt: int = 0
    charged_errors: int = 0
    charged_crashes: int = 0
    alone: bool = False
    passed_over: int = 0
    cancel_requested: bool = False
    pause_requested: bool = False
    result: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None
    timings: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    fingerprint: str = ""
    position: int = 0
    pinned: bool = False
    group: str | None = None
    plan: dict[str, Any] | None = None
    webhook: Webhook | None = None
    attempts: tuple[Attempt, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    checkpoint: Checkpoint | None = None
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True)
class Filter:
    """What `Store.jobs` looks for. None: any. `before`: a job id from the last page (keyset, newest first)."""

    owner: str | None = None
    states: tuple[JobState, ...] = ()
    operation: str | None = None
    tag: str | None = None
    before: str | None = None
    limit: int = 50
    group: str | None = None


@dataclass(frozen=True)
class ArtifactFilter:
    """What `Store.artifacts` looks for. None: any. `before`: an artifact's id from the last page (newest first).

    `text`: words that all stand in the prompt (`jobs.search`). `model`: a name. `tag`, `group`: of the job. `since`
    (included), `until` (not): seconds since the epoch. `binned`: what lies in the bin, else what does not.
    """

    owner: str | None = None
    text: str | None = None
    model: str | None = None
    seed: int | None = None
    tag: str | None = None
    group: str | None = None
    since: float | None = None
    until: float | None = None
    favourite: bool | None = None
    binned: bool = False
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True)
class Finished:
    """A job that is over, as retention sees it. `ended`: when, on the steady clock (jobs.steady). `bytes`: what its
    artifacts' rows add up to.

    `pinned`: it stays, because its owner pinned it or keeps one of its artifacts as a favourite (not in the bin).
    """

    id: str
    ended: float
    bytes: int
    pinned: bool = False

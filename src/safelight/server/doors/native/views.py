"""What the native door answers: the records of the store as programs see them. Times: seconds since the epoch, UTC."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from safelight.core.states import AttemptEnd, JobState
from safelight.jobs.records import Artifact, DeliveryState, Job, Upload


class FaultView(BaseModel):
    """One thing wrong with a request: where, what, and the way out."""

    path: str
    message: str
    hint: str


class ProblemView(BaseModel):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    kind: str
    detail: str
    hint: str | None = None
    errors: list[FaultView] | None = None


class AcceptedView(BaseModel):
    """A committed job: it will not be lost. `position`: its place in the queue, 0 once it has left it."""

    id: str
    state: JobState
    position: int
    url: str
    stream_url: str


class ArtifactView(BaseModel):
    """A finished file."""

    id: str
    job_id: str
    index: int
    url: str
    thumbnail_url: str
    media_type: str
    bytes: int
    width: int
    height: int
    seed: int
    sha256: str
    created_at: float
    favourite: bool
    binned_at: float | None = Field(description="since when it lies in the bin; null: it does not")


class AttemptView(BaseModel):
    """One try; `end`, `kind`, `message` and `trace` say how it ended, where it ended without a result."""

    number: int
    worker: str
    started_at: float
    ended_at: float | None
    end: AttemptEnd | None
    kind: str
    message: str
    trace: str


class DeliveryView(BaseModel):
    """An event that the job's webhook is to hear of. `said`: how the last try failed."""

    id: str
    event: str
    number: int
    state: DeliveryState
    tries: int
    tried_at: float | None
    said: str


class WebhookView(BaseModel):
    """Whom a job tells of its events, and what became of that."""

    url: str
    events: list[str]
    deliveries: list[DeliveryView]


class JobView(BaseModel):
    """The durable record of a job. `request`: as asked; `resolved`: complete, with the seed that is used."""

    id: str
    operation: str
    state: JobState
    owner: str
    priority: int
    tags: list[str]
    group: str | None
    pinned: bool
    position: int = Field(description="place in the queue when it was last queued; 0 unless it is queued")
    created_at: float
    started_at: float | None
    ended_at: float | None
    not_before: float | None
    deadline: float | None
    worker: str | None
    retry_of: str | None
    cancel_requested: bool
    pause_requested: bool
    attempt: int
    request: dict[str, Any]
    resolved: dict[str, Any]
    result: dict[str, Any] | None
    failure: dict[str, Any] | None
    timings: dict[str, float] = Field(description="seconds: queue, total, and those of each kind of stage")
    peak_bytes: int
    plan: dict[str, Any] | None = Field(description="how a deterministic job computes, from its first attempt on")
    attempts: list[AttemptView]
    artifacts: list[ArtifactView]
    webhook: WebhookView | None
    binned: list[ArtifactView] = Field(description="those of its artifacts that lie in the bin")
    url: str
    stream_url: str


class JobPage(BaseModel):
    """Jobs, newest first, without attempts, artifacts and deliveries. `next`: give it as `before` for the next page."""

    jobs: list[JobView]
    next: str | None


class ArtifactPage(BaseModel):
    """Artifacts, newest first. `next`: what to give as `before` for the next page."""

    artifacts: list[ArtifactView]
    next: str | None


class MetadataView(BaseModel):
    """What made an artifact: the job's complete request and what was measured."""

    artifact: ArtifactView
    operation: str
    request: dict[str, Any]
    resolved: dict[str, Any]
    timings: dict[str, float]
    texts: dict[str, str] = Field(description="what is written inside the file, by name")


class UploadView(BaseModel):
    """A kept picture; its id can stand wherever a request takes a picture. Sides in pixels as stored."""

    id: str
    media_type: str
    bytes: int
    width: int
    height: int


def accepted_view(job: Job) -> AcceptedView:
    """The answer to a submission."""
    url = f"/v1/jobs/{job.id}"
    position = job.position if job.state is JobState.QUEUED else 0
    return AcceptedView(id=job.id, state=job.state, position=position, url=url, stream_url=f"{url}/stream")


def artifact_view(artifact: Artifact) -> ArtifactView:
    """An artifact with its addresses."""
    url = f"/v1/artifacts/{artifact.id}"
    return ArtifactView(
        id=artifact.id,
        job_id=artifact.job_id,
        index=artifact.index,
        url=url,
        thumbnail_url=f"{url}/thumbnail",
        media_type=artifact.media_type,
        bytes=artifact.bytes,
        width=artifact.width,
        height=artifact.height,
        seed=artifact.seed,
        sha256=artifact.sha256,
        created_at=artifact.created_at,
        favourite=artifact.favourite,
        binned_at=artifact.binned_at,
    )


def upload_view(upload: Upload) -> UploadView:
    """A kept picture."""
    return UploadView(
        id=upload.id, media_type=upload.media_type, bytes=upload.bytes, width=upload.width, height=upload.height
    )


def job_view(job: Job) -> JobView:
    """The whole record."""
    url = f"/v1/jobs/{job.id}"
    return JobView(
        id=job.id,
        operation=job.operation,
        state=job.state,
        owner=job.owner,
        priority=job.priority,
        tags=list(job.tags),
        group=job.group,
        pinned=job.pinned,
        position=job.position if job.state is JobState.QUEUED else 0,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        not_before=job.not_before,
        deadline=job.deadline,
        worker=job.worker,
        retry_of=job.retry_of,
        cancel_requested=job.cancel_requested,
        pause_requested=job.pause_requested,
        attempt=job.attempt,
        request=job.request,
        resolved=job.resolved,
        result=job.result,
        failure=job.failure,
        timings=timings(job),
        peak_bytes=job.peak_bytes,
        plan=job.plan,
        attempts=[AttemptView.model_validate(each, from_attributes=True) for each in job.attempts],
        artifacts=[artifact_view(each) for each in job.artifacts if each.binned_at is None],
        webhook=_webhook_view(job),
        binned=[artifact_view(each) for each in job.artifacts if each.binned_at is not None],
        url=url,
        stream_url=f"{url}/stream",
    )


def _webhook_view(job: Job) -> WebhookView | None:
    if job.webhook is None:
        return None
    deliveries = [
        DeliveryView(
            id=each.id,
            event=each.event.kind.value,
            number=each.event.number,
            state=each.state,
            tries=each.tries,
            tried_at=each.tried_at,
            said=each.said,
        )
        for each in job.deliveries
    ]
    return WebhookView(url=job.webhook.url, events=list(job.webhook.events), deliveries=deliveries)


def timings(job: Job) -> dict[str, float]:
    """Seconds per kind of stage, with the wait before the first attempt (`queue`) and the whole (`total`)."""
    seconds = dict(job.timings)
    if job.started_at is not None:
        seconds["queue"] = max(0.0, job.started_at - job.created_at)
    if job.ended_at is not None:
        seconds["total"] = max(0.0, job.ended_at - job.created_at)
    return seconds

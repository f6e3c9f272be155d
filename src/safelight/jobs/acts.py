"""What a store does in one transaction: look rows up, let `lifecycle` decide, put rows down. Written once for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from safelight.core.events import Event
from safelight.core.states import JobState
from safelight.errors import NotFound
from safelight.jobs import lifecycle
from safelight.jobs.lifecycle import Change, Ending, Wishes
from safelight.jobs.records import (
    Artifact,
    ArtifactFilter,
    Checkpoint,
    Delivery,
    DeliveryState,
    Filter,
    Job,
    NewJob,
    Upload,
    Webhook,
)
from safelight.jobs.rows import Rows, Standing
from safelight.jobs.store import NewEvent


def submit(rows: Rows, new: NewJob, max_queued: int) -> tuple[Job, bool]:
    """See Store.submit."""
    there = repeated(rows, new)
    if there is not None:
        return there, False
    if new.retry_of is not None and rows.standing(new.retry_of) is None:  # else its files might go just now
        raise NotFound(f"There is no job {new.retry_of!r} to retry.", "It was removed; hand in its request anew.")
    if max_queued:
        lifecycle.check_room(rows.counts()[JobState.QUEUED], max_queued)
    change = lifecycle.accept(new, rows.now.wall, rows.queued_from(new.priority) + 1)
    rows.insert(change.job, new.idempotency_key, new.files)
    _say(rows, new.id, new.owner, new.webhook, change.events)
    return change.job, True


def repeated(rows: Rows, new: NewJob) -> Job | None:
    """See Store.repeated."""
    key = new.idempotency_key
    return lifecycle.repeated(new, rows.job(new.id), rows.keyed(new.owner, key) if key is not None else None)


def get(rows: Rows, job_id: str, owner: str | None) -> Job:
    """See Store.get."""
    return lifecycle.check_owner(rows.job(job_id), job_id, owner)


def jobs(rows: Rows, wanted: Filter) -> list[Job]:
    """See Store.jobs."""
    if wanted.before is not None and rows.standing(wanted.before) is None:
        raise NotFound(f"There is no job {wanted.before!r} to go on from.", "Begin again with the first page.")
    return rows.jobs(wanted)


def claim(rows: Rows, job_id: str, worker: str, lease_s: float) -> Job | None:
    """See Store.claim."""
    job = rows.job(job_id)
    change = lifecycle.claim(job, worker, rows.now.wall) if job is not None else None
    if job is None or change is None:
        return None
    rows.grant(job_id, change.job.attempt, worker, rows.now.tick + lease_s)
    rows.served(job.owner)
    return _keep(rows, job, change)


def heartbeat(rows: Rows, worker: str, held: Sequence[tuple[str, int]], lease_s: float) -> list[tuple[str, int]]:
    """See Store.heartbeat."""
    until = rows.now.tick + lease_s
    return [(job_id, attempt) for job_id, attempt in held if not rows.renew(job_id, attempt, worker, until)]


def release(rows: Rows, job_id: str, attempt: int, ending: Ending) -> Job:
    """See Store.release."""
    job = _current(rows, job_id, attempt)
    return _keep(rows, job, lifecycle.release(job, ending, rows.now.wall, _position(rows, job)))


def succeed(rows: Rows, job_id: str, attempt: int, result: dict[str, Any], timings: dict[str, float],
            peak_bytes: int) -> Job:  # fmt: skip
    """See Store.succeed."""
    job = _current(rows, job_id, attempt)
    return _keep(rows, job, lifecycle.succeed(job, result, timings, peak_bytes, rows.now.wall))


def append(rows: Rows, job_id: str, attempt: int, events: Sequence[NewEvent]) -> list[Event]:
    """See Store.append."""
    for kind, _ in events:
        lifecycle.check_storable(kind)
    standing = _fence(rows, job_id, attempt)
    return _say(rows, job_id, standing.owner, standing.webhook, events)


def add_artifact(rows: Rows, artifact: Artifact, attempt: int) -> tuple[Artifact, Event | None]:
    """See Store.add_artifact."""
    standing = _fence(rows, artifact.job_id, attempt)
    there = rows.artifact_at(artifact.job_id, artifact.index)
    if there is not None:
        return there, None
    artifact = replace(artifact, owner=standing.owner, created_at=artifact.created_at or rows.now.wall)
    rows.add_artifact(artifact)
    said = [lifecycle.artifact_event(artifact)]
    (event,) = _say(rows, artifact.job_id, standing.owner, standing.webhook, said)
    return artifact, event


def set_checkpoint(rows: Rows, checkpoint: Checkpoint) -> Checkpoint | None:
    """See Store.set_checkpoint."""
    job = _current(rows, checkpoint.job_id, checkpoint.attempt)
    _keep(rows, job, lifecycle.checkpointed(job, checkpoint))
    return job.checkpoint


def set_plan(rows: Rows, job_id: str, attempt: int, plan: dict[str, Any]) -> Job:
    """See Store.set_plan."""
    job = _current(rows, job_id, attempt)
    return _keep(rows, job, lifecycle.planned(job, plan))


def refuse(rows: Rows, job_id: str, kind: str, message: str, hint: str) -> Job:
    """See Store.refuse."""
    return _changed(rows, job_id, None, lambda job: lifecycle.refuse(job, kind, message, hint, rows.now.wall))


def request_cancel(rows: Rows, job_id: str, owner: str | None) -> Job:
    """See Store.request_cancel."""
    return _changed(rows, job_id, owner, lambda job: lifecycle.cancel(job, rows.now.wall))


def request_pause(rows: Rows, job_id: str, owner: str | None) -> Job:
    """See Store.request_pause."""
    return _changed(rows, job_id, owner, lifecycle.pause)


def resume(rows: Rows, job_id: str, owner: str | None) -> Job:
    """See Store.resume."""
    return _changed(rows, job_id, owner, lambda job: lifecycle.resume(job, _position(rows, job)))


def update(rows: Rows, job_id: str, owner: str | None, wishes: Wishes) -> Job:
    """See Store.update."""
    return _changed(rows, job_id, owner, lambda job: lifecycle.update(job, wishes))


def artifact(rows: Rows, artifact_id: str, owner: str | None) -> Artifact:
    """See Store.artifact."""
    found = rows.artifact(artifact_id)
    if found is None or owner not in (None, found.owner):
        raise NotFound(f"There is no artifact {artifact_id!r}.", "It may have been removed with its job.")
    return found


def artifacts(rows: Rows, wanted: ArtifactFilter) -> list[Artifact]:
    """See Store.artifacts."""
    if wanted.before is not None and rows.artifact(wanted.before) is None:
        raise NotFound(f"There is no artifact {wanted.before!r} to go on from.", "Begin again with the first page.")
    return rows.artifacts(wanted)


def update_artifact(rows: Rows, artifact_id: str, owner: str | None, favourite: bool | None,
                    binned: bool | None) -> Artifact:  # fmt: skip
    """See Store.update_artifact."""
    changed = lifecycle.binned(artifact(rows, artifact_id, owner), favourite, binned, rows.now.wall)
    rows.save_artifact(changed)
    return changed


def tried(rows: Rows, sequence: int, state: DeliveryState, said: str) -> Delivery:
    """See Store.tried."""
    there = rows.delivery(sequence)
    if there is None:
        raise NotFound(f"There is no delivery of the event {sequence}.", "Its job was forgotten.")
    noted = replace(there, state=state, tries=there.tries + 1, said=said, tried_at=rows.now.wall)
    rows.save_delivery(noted)
    return noted


def add_upload(rows: Rows, upload: Upload) -> Upload:
    """See Store.add_upload."""
    upload = replace(upload, created_at=rows.now.wall)
    rows.put_upload(upload)
    return upload


def upload(rows: Rows, upload_id: str, owner: str | None) -> Upload:
    """See Store.upload."""
    found = rows.upload(upload_id, owner)
    if found is None:
        raise NotFound(f"There is no upload {upload_id!r}.", "Send the file again with POST /v1/uploads.")
    return found


def forget(rows: Rows, job_ids: Iterable[str]) -> int:
    """See Store.forget."""
    return sum(rows.forget(job_id) for job_id in job_ids)


def named(rows: Rows, files: Iterable[str]) -> set[str]:
    """See Store.named."""
    return {sha256 for sha256 in files if rows.is_named(sha256)}


def unfinished(rows: Rows, job_ids: Iterable[str]) -> set[str]:
    """See Store.unfinished."""
    standings = {job_id: rows.standing(job_id) for job_id in job_ids}
    return {job_id for job_id, standing in standings.items() if standing is not None and not standing.state.over}


def _position(rows: Rows, job: Job) -> int:
    """The place the job takes if it is queued now."""
    return rows.queued_from(job.priority) + 1


def _fence(rows: Rows, job_id: str, attempt: int) -> Standing:
    """The standing of the job that `attempt` runs; else StaleAttempt; NotFound where the job is gone."""
    standing = rows.standing(job_id)
    if standing is None:
        raise NotFound(f"There is no job {job_id!r}.", "Drop this work.")
    lifecycle.check_attempt(job_id, standing.state, standing.attempt, attempt)
    return standing


def _current(rows: Rows, job_id: str, attempt: int) -> Job:
    """The whole job that `attempt` runs."""
    job = lifecycle.check_owner(rows.job(job_id), job_id, None)
    lifecycle.check_attempt(job_id, job.state, job.attempt, attempt)
    return job


def _changed(rows: Rows, job_id: str, owner: str | None, decide: Callable[[Job], Change]) -> Job:
    job = lifecycle.check_owner(rows.job(job_id), job_id, owner)
    return _keep(rows, job, decide(job))


def _keep(rows: Rows, before: Job, change: Change) -> Job:
    """Put the change down. A job that no longer runs holds no lease."""
    rows.save(before, change.job)
    if before.state is JobState.RUNNING and change.job.state is not JobState.RUNNING:
        rows.end_lease(before.id)
    _say(rows, before.id, before.owner, before.webhook, change.events)
    return change.job


def _say(rows: Rows, job_id: str, owner: str, webhook: Webhook | None, said: Sequence[NewEvent]) -> list[Event]:
    """Put events down, and with them what the job's webhook is to hear of them."""
    events = rows.add_events(job_id, owner, said)
    rows.add_deliveries(lifecycle.deliveries(webhook, events))
    return events

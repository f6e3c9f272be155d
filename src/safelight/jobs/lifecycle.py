"""What happens to a job: pure decisions, from the record as it stands to the record and events that follow.

Every store obeys these; none decides anything itself. A function that finds the move impossible raises and changes
nothing. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from safelight.core.events import LAST, UNSTORED, Event, EventKind
from safelight.core.states import (
    CHARGED,
    MAX_CHARGED_CRASHES,
    MAX_CHARGED_ERRORS,
    MAX_LONE_SUSPICIONS,
    AttemptEnd,
    JobState,
    move,
)
from safelight.errors import Conflict, NotFound, QueueFull, StaleAttempt
from safelight.jobs.records import Artifact, Attempt, Checkpoint, Delivery, Job, NewJob, Webhook
from safelight.jobs.store import NewEvent

GOES_ALONE = frozenset({AttemptEnd.SUSPECT, AttemptEnd.CRASHED})
"""After these a job runs alone until its next checkpoint, so that the next death has one culprit."""

ANEW = "The checkpoint that it went on from is given up: the next attempt begins anew."


@dataclass(frozen=True)
class Change:
    """The record as it is to be stored, and the events to store with it."""

    job: Job
    events: tuple[NewEvent, ...] = ()


@dataclass(frozen=True)
class Ending:
    """How an attempt ended without a result, in a worker's or the pool's words."""

    end: AttemptEnd
    message: str
    kind: str = ""
    hint: str = ""
    trace: str = ""
    alone: bool = False


@dataclass(frozen=True)
class Wishes:
    """What an owner may change of a job at any time; None leaves it. `group`: empty takes it out of its group."""

    priority: int | None = None
    tags: tuple[str, ...] | None = None
    pinned: bool | None = None
    group: str | None = None


def accept(new: NewJob, now: float, position: int) -> Change:
    """The record of a job that was just submitted. `position`: its place in the queue, from 1."""
    job = Job(
        id=new.id,
        owner=new.owner,
        operation=new.operation,
        state=JobState.QUEUED,
        request=new.request,
        resolved=new.resolved,
        priority=new.priority,
        tags=new.tags,
        created_at=now,
        model_key=new.model_key,
        worker=new.worker,
        not_before=new.not_before,
        deadline=new.deadline,
        retry_of=new.retry_of,
        bytes_needed=new.bytes_needed,
        weights_bytes=new.weights_bytes,
        fingerprint=new.fingerprint,
        position=position,
        group=new.group,
        webhook=new.webhook,
    )
    return Change(job, ((EventKind.QUEUED, {"position": position}),))


def repeated(new: NewJob, by_id: Job | None, by_key: Job | None) -> Job | None:
    """The job that this submission repeats, or None if it is new. Conflict where id or key mean something else."""
    if by_id is not None and by_id.owner != new.owner:
        raise Conflict(f"The id {new.id!r} is taken.", "Choose another id, or leave it to the server.")
    if by_id is not None and by_key is not None and by_id.id != by_key.id:
        raise Conflict(
            f"The id {new.id!r} and the key {new.idempotency_key!r} belong to two different jobs.",
            "Send the id and the key of one submission, or new ones.",
        )
    there = by_id or by_key
    if there is None:
        return None
    if there.fingerprint != new.fingerprint:
        used = f"The id {new.id!r}" if by_id is not None else f"The idempotency key {new.idempotency_key!r}"
        raise Conflict(f"{used} was used for job {there.id} with another body.", "Use a new one for a new request.")
    return there


def check_room(queued: int, max_queued: int) -> None:
    """QueueFull where `queued` jobs wait and no more than `max_queued` may (0: no limit)."""
    if max_queued and queued >= max_queued:
        raise QueueFull(f"{queued} jobs are queued; max_queued is {max_queued}.", "Try again later, or raise it.")


def check_owner(job: Job | None, job_id: str, owner: str | None) -> Job:
    """The job, where it is there and `owner` (None: anyone) may see it; else NotFound."""
    if job is None or (owner is not None and job.owner != owner):
        raise NotFound(f"There is no job {job_id!r}.", "It may have been removed after its retention time.")
    return job


def check_attempt(job_id: str, state: JobState, current: int, attempt: int) -> None:
    """StaleAttempt unless `attempt` is the one that runs."""
    if state is not JobState.RUNNING or attempt != current:
        raise StaleAttempt(
            f"Attempt {attempt} of job {job_id} is over: the job is {state}, its last attempt is {current}.",
            "Drop this work.",
        )


def check_storable(kind: EventKind) -> None:
    """ValueError for an event that a running attempt may not store."""
    if kind in UNSTORED or kind in LAST:
        raise ValueError(f"An attempt cannot store a {kind} event; unstored: {sorted(UNSTORED)}, ends: {sorted(LAST)}")


def claim(job: Job, worker: str, now: float) -> Change | None:
    """The next attempt begins; None if the job is not queued."""
    if job.state is not JobState.QUEUED:
        return None
    number = job.attempt + 1
    begun = replace(
        job,
        state=move(job.state, JobState.RUNNING),
        attempt=number,
        attempts=(*job.attempts, Attempt(number, worker, now)),
        started_at=job.started_at if job.started_at is not None else now,
        passed_over=0,
    )
    said = {"attempt": number, "worker": worker, "resumed": job.checkpoint is not None}
    return Change(begun, ((EventKind.STARTED, said),))


def release(job: Job, ending: Ending, now: float, position: int) -> Change:
    """The running attempt ended without a result: charge it, then queue, pause, cancel or fail the job.

    `position`: its place in the queue if it goes back there.
    """
    end = ending.end
    if end is AttemptEnd.SUCCEEDED:
        raise ValueError("an attempt that succeeded is not released; see succeed")
    job = _closed(job, ending, now)
    job = replace(
        job,
        charged_errors=job.charged_errors + (end in CHARGED and end is AttemptEnd.ERROR),
        charged_crashes=job.charged_crashes + (end in CHARGED and end is AttemptEnd.CRASHED),
        alone=job.alone or ending.alone or end in GOES_ALONE,
    )
    anew = _fails_where_it_goes_on(job, end)
    if anew:
        job = replace(job, checkpoint=None)
    match _after(job, end):
        case JobState.FAILED:
            return _failed(job, _failure(job, ending), now)
        case JobState.CANCELLED:
            return _cancelled(job, now)
        case JobState.PAUSED:
            return _paused(job)
    message = f"{ending.message} {ANEW}" if anew else ending.message
    said = {"attempt": job.attempt, "end": end.value, "message": message}
    back = replace(job, state=move(job.state, JobState.QUEUED), position=position)
    return Change(back, ((EventKind.RETRY, said),))


def _after(job: Job, end: AttemptEnd) -> JobState:
    """Where a job goes whose attempt, already charged, ended so. What its owner wants wins over the queue only."""
    poisoned = job.charged_crashes >= MAX_CHARGED_CRASHES or job.charged_errors >= MAX_CHARGED_ERRORS
    suspected = end is AttemptEnd.SUSPECT and _suspected_alone(job) >= MAX_LONE_SUSPICIONS
    if end is AttemptEnd.REFUSED or (end in CHARGED and poisoned) or suspected:
        return JobState.FAILED
    if end is AttemptEnd.CANCELLED or job.cancel_requested:
        return JobState.CANCELLED
    return JobState.PAUSED if job.pause_requested else JobState.QUEUED


def _fails_where_it_goes_on(job: Job, end: AttemptEnd) -> bool:
    """Whether the attempt, already charged, leaves the job one last chance and got no further than the checkpoint that
    it went on from: perhaps that is what is wrong, and not the job."""
    last_chance = end is AttemptEnd.ERROR and job.charged_errors == MAX_CHARGED_ERRORS - 1
    return last_chance and job.checkpoint is not None and job.checkpoint.attempt < job.attempt


def _suspected_alone(job: Job) -> int:
    """How many attempts since its last checkpoint ended SUSPECT although nothing ran beside them.

    The first that made the job a suspect may have had company and is not counted; those after it had none.
    """
    since = job.checkpoint.attempt if job.checkpoint is not None else 0
    blamed = [each.end for each in job.attempts if each.number >= since and each.end in GOES_ALONE]
    return blamed[1:].count(AttemptEnd.SUSPECT)


def _failure(job: Job, ending: Ending) -> dict[str, Any]:
    """What to say of a job that fails by this ending."""
    kind, message, hint = ending.kind or "error", ending.message, ending.hint
    if ending.end is AttemptEnd.CRASHED:
        kind = "poison"
        message = f"{job.charged_crashes} workers died of this job while it was their only one. The last: {message}"
        hint = hint or "Try smaller sizes or another model; `safelight doctor` checks the machine."
    if ending.end is AttemptEnd.SUSPECT:
        kind = "poison"
        message = f"{_suspected_alone(job)} workers hung or died while this job was their only one. The last: {message}"
        hint = hint or "Try smaller sizes or another model; where the work is only slow, raise the setting jobs.hang_s."
    return {"kind": kind, "message": message, "hint": hint, "trace": ending.trace}


def succeed(job: Job, result: dict[str, Any], timings: dict[str, float], peak_bytes: int, now: float) -> Change:
    """The running attempt brought the result. That wins over a cancel or pause asked for meanwhile."""
    job = _closed(job, Ending(AttemptEnd.SUCCEEDED, ""), now)
    job = replace(_over(job, JobState.SUCCEEDED, now), result=result, timings=timings, peak_bytes=peak_bytes)
    return Change(job, ((EventKind.SUCCEEDED, {"result": result, "timings": timings}),))


def refuse(job: Job, kind: str, message: str, hint: str, now: float) -> Change:
    """Fail a queued job that no attempt can help; any other stays as it is."""
    if job.state is not JobState.QUEUED:
        return Change(job)
    return _failed(job, {"kind": kind, "message": message, "hint": hint, "trace": ""}, now)


def cancel(job: Job, now: float) -> Change:
    """Its owner wants it no more."""
    if job.state.over:
        return Change(job)
    if job.state is JobState.RUNNING:
        return Change(replace(job, cancel_requested=True))
    return _cancelled(job, now)


def pause(job: Job) -> Change:
    """Its owner sets it aside."""
    if job.state is JobState.RUNNING:
        return Change(replace(job, pause_requested=True))
    if job.state is not JobState.QUEUED:
        raise Conflict(f"Job {job.id} is {job.state}: it cannot be paused.", "Queued and running jobs can.")
    return _paused(job)


def resume(job: Job, position: int) -> Change:
    """Its owner wants it to go on."""
    if job.state is JobState.RUNNING and job.pause_requested:
        return Change(replace(job, pause_requested=False))
    if job.state is not JobState.PAUSED:
        raise Conflict(f"Job {job.id} is {job.state}: it cannot be resumed.", "Only a paused job can.")
    back = replace(job, state=move(job.state, JobState.QUEUED), position=position)
    return Change(back, ((EventKind.QUEUED, {"position": position, "reason": "resumed"}),))


def update(job: Job, wishes: Wishes) -> Change:
    """The job as its owner wants it."""
    return Change(
        replace(
            job,
            priority=job.priority if wishes.priority is None else wishes.priority,
            tags=job.tags if wishes.tags is None else wishes.tags,
            pinned=job.pinned if wishes.pinned is None else wishes.pinned,
            group=job.group if wishes.group is None else wishes.group or None,
        )
    )


def planned(job: Job, plan: dict[str, Any]) -> Change:
    """How the job computes is known; the first word counts."""
    return Change(job if job.plan is not None else replace(job, plan=plan))


def checkpointed(job: Job, checkpoint: Checkpoint) -> Change:
    """The job can go on from there, and has lived through what made it a suspect: unless it only left again where it
    had begun (pre-empted, say), and is as far as it was."""
    here = job.checkpoint is not None and job.checkpoint.step == checkpoint.step
    return Change(replace(job, checkpoint=checkpoint, alone=job.alone and here))


def binned(artifact: Artifact, favourite: bool | None, in_bin: bool | None, now: float) -> Artifact:
    """The artifact as its owner wants it; None leaves it."""
    since = artifact.binned_at
    if in_bin is not None:
        since = (now if since is None else since) if in_bin else None
    return replace(artifact, favourite=artifact.favourite if favourite is None else favourite, binned_at=since)


def deliveries(webhook: Webhook | None, events: Sequence[Event]) -> list[Delivery]:
    """What the webhook is to hear of these events."""
    return [] if webhook is None else [Delivery(each, webhook.url) for each in events if each.kind in webhook.events]


def artifact_event(artifact: Artifact) -> NewEvent:
    """What is said of a finished file."""
    return EventKind.ARTIFACT, {
        "id": artifact.id,
        "index": artifact.index,
        "url": f"/v1/artifacts/{artifact.id}",
        "media_type": artifact.media_type,
        "width": artifact.width,
        "height": artifact.height,
        "seed": artifact.seed,
    }


def _closed(job: Job, ending: Ending, now: float) -> Job:
    """The job with its running attempt ended."""
    last = replace(
        job.attempts[-1],
        ended_at=now,
        end=ending.end,
        kind=ending.kind,
        message=ending.message,
        trace=ending.trace,
    )
    return replace(job, attempts=(*job.attempts[:-1], last))


def _over(job: Job, state: JobState, now: float) -> Job:
    wishless = replace(job, cancel_requested=False, pause_requested=False)
    return replace(wishless, state=move(job.state, state), ended_at=now, checkpoint=None)


def _failed(job: Job, failure: dict[str, Any], now: float) -> Change:
    return Change(replace(_over(job, JobState.FAILED, now), failure=failure), ((EventKind.FAILED, failure),))


def _cancelled(job: Job, now: float) -> Change:
    return Change(_over(job, JobState.CANCELLED, now), ((EventKind.CANCELLED, {}),))


def _paused(job: Job) -> Change:
    aside = replace(job, state=move(job.state, JobState.PAUSED), pause_requested=False)
    return Change(aside, ((EventKind.PAUSED, {}),))

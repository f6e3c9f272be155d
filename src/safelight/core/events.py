"""Events: numbered, stored, streamed facts about a job. Previews and text pieces are streamed only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventKind(StrEnum):
    """What happened. The data of each kind is listed in docs/events.md."""

    QUEUED = "queued"
    STARTED = "started"
    LOADING = "loading"
    STEP = "step"
    STAGE = "stage"
    PREVIEW = "preview"
    ARTIFACT = "artifact"
    WARNING = "warning"
    RETRY = "retry"
    TEXT = "text"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNSTORED: frozenset[EventKind] = frozenset({EventKind.PREVIEW, EventKind.TEXT})
"""Streamed to whoever listens, without a number; never replayed, dropped for slow listeners."""

LAST: frozenset[EventKind] = frozenset({EventKind.SUCCEEDED, EventKind.FAILED, EventKind.CANCELLED})
"""A job's stream ends after one of these."""

EVENT_HELP: dict[EventKind, str] = {
    EventKind.QUEUED: "accepted, or back in the queue: {position, reason}",
    EventKind.STARTED: "an attempt began: {attempt, worker, resumed}",
    EventKind.LOADING: "a component is being read: {component, bytes_done, bytes_total}",
    EventKind.STEP: "a step of a picture: {picture, stage, step, steps, sigma, eta_s}",
    EventKind.STAGE: "a stage of the recipe: {stage, node, state: entered|cached|done}",
    EventKind.PREVIEW: "a rough picture of where it is: {picture, step, media_type, data (base64)}; not stored",
    EventKind.ARTIFACT: "a finished file: {id, index, url, media_type, width, height, seed}",
    EventKind.WARNING: "something the owner should know: {message}",
    EventKind.RETRY: "an attempt ended without a result: {attempt, end, message}",
    EventKind.TEXT: "a piece of generated text: {piece, index}; not stored",
    EventKind.PAUSED: "the owner set it aside: {}",
    EventKind.SUCCEEDED: "over: {result, timings}",
    EventKind.FAILED: "over: {kind, message, hint}",
    EventKind.CANCELLED: "over: {}",
}


@dataclass(frozen=True)
class Event:
    """One stored fact. `number` counts within the job from 1, `sequence` over the whole store in commit order.

    `at`: seconds since the epoch, UTC. An unstored event has number and sequence 0.
    """

    job_id: str
    kind: EventKind
    data: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    sequence: int = 0
    at: float = 0.0

"""Server-sent events: a job's, and those of all the caller's jobs. An event's id is where a listener can go on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from safelight.core.events import LAST, Event
from safelight.errors import InvalidRequest, InvalidValue, QueueFull
from safelight.server.doors.native.routes import Owner, Reach, problems
from safelight.server.services import Services

router = APIRouter(tags=["events"])

EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "`id` (number or sequence), `event` (the kind), `data` (EventView as JSON)",
        "content": {"text/event-stream": {"schema": {"$ref": "#/components/schemas/EventView"}}},
    },
    **problems(403, 404, 422, 429),
}
After = Annotated[int | None, Query(ge=0, le=2**53, description="only events after this one; wins over Last-Event-ID")]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", description="where a broken connection goes on")]


@router.get("/v1/jobs/{job_id}/stream", responses=EVENT_STREAM, response_class=StreamingResponse)
async def stream_job(
    services: Reach,
    owner: Owner,
    job_id: str,
    after: After = None,
    previews: Annotated[bool, Query(description="rough pictures while it is drawn; they have no id")] = False,
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """A job's events from the first (or after the given one) to its last, then the stream ends."""
    job = await services.store.get(job_id, owner)
    start = _start(after, last_event_id)
    _check_room(services)
    if job.state.over:
        return _stream(_replay(services, job_id, start), by_sequence=False)
    follow = services.hub.follow(job_id, start, previews=previews, idle_s=services.settings.server.stream_heartbeat_s)
    return _stream(follow, by_sequence=False)


@router.get("/v1/events", responses=EVENT_STREAM, response_class=StreamingResponse)
async def stream_events(
    services: Reach, owner: Owner, after: After = None, last_event_id: LastEventId = None
) -> StreamingResponse:
    """Stored events of all the caller's jobs in commit order; does not end by itself. The id is the sequence."""
    start = _start(after, last_event_id)
    _check_room(services)
    follow = services.hub.follow_owner(owner, start, idle_s=services.settings.server.stream_heartbeat_s)
    return _stream(follow, by_sequence=True)


def encode(event: Event, by_sequence: bool) -> bytes:
    """One event as it stands in the stream. Unstored ones carry no id, so that a listener never goes on from them."""
    data = msgspec.json.encode(
        {
            "job_id": event.job_id,
            "kind": event.kind,
            "number": event.number,
            "sequence": event.sequence,
            "at": event.at,
            "data": event.data,
        }
    )
    number = event.sequence if by_sequence else event.number
    name = b"id: %d\n" % number if number else b""
    return name + b"event: " + event.kind.encode() + b"\ndata: " + data + b"\n\n"


def _stream(events: AsyncIterator[Event | None], by_sequence: bool) -> StreamingResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_encoded(events, by_sequence), 200, headers, "text/event-stream")


async def _encoded(events: Any, by_sequence: bool) -> AsyncIterator[bytes]:
    yield b": open\n\n"
    async with aclosing(events):
        async for event in events:
            yield b": idle\n\n" if event is None else encode(event, by_sequence)


async def _replay(services: Services, job_id: str, after: int) -> AsyncIterator[Event | None]:
    for event in await services.store.events(job_id, after):
        yield event
        if event.kind in LAST:
            return


def _start(after: int | None, last_event_id: str | None) -> int:
    if after is not None:
        return after
    if not last_event_id:
        return 0
    if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 15:
        hint = "Send the id of the last event you have, a whole number."
        raise InvalidRequest(InvalidValue("Last-Event-ID", f"{last_event_id[:80]!r} is no event's id", hint))
    return int(last_event_id)


def _check_room(services: Services) -> None:
    limit = services.settings.server.max_streams
    if services.hub.listeners >= limit:
        raise QueueFull(f"{limit} event streams are open, the most there may be (server.max_streams).",
                        "Close one, or ask again later.")  # fmt: skip

"""Routes of jobs: hand in, read, list, change, cancel, retry."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from safelight.core.states import JobState
from safelight.errors import InvalidRequest, InvalidValue
from safelight.jobs.records import Filter, Job
from safelight.server.bodies import read_json, read_model
from safelight.server.doors.native.routes import Owner, Reach, json_body, problems
from safelight.server.doors.native.views import AcceptedView, JobPage, JobView, accepted_view, job_view
from safelight.server.services import Services
from safelight.server.submissions import Group, Tag

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LONGEST_WAIT_S = 3600.0

Wait = Annotated[
    float | None,
    Query(ge=0, le=LONGEST_WAIT_S, description="hold the answer until the job ends, at most this many seconds"),
]
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=200, description="the same key gives the same job"),
]
BODY = json_body({"$ref": "#/components/schemas/Submission"})
SUBMITTED: dict[int | str, dict[str, Any]] = {
    200: {"model": JobView, "description": "With `wait`: the job is over"},
    202: {"model": AcceptedView | JobView, "description": "Committed; with `wait`: the record, not over yet"},
    **problems(403, 409, 413, 415, 422, 429, 503),
}


class JobChange(BaseModel):
    """What an owner may change. `paused`: set the job aside at its next step, or let it go on."""

    model_config = ConfigDict(extra="forbid")

    priority: Annotated[int | None, Field(ge=-10, le=10)] = None
    tags: Annotated[tuple[Tag, ...] | None, Field(max_length=32)] = None
    pinned: Annotated[bool | None, Field(description="retention leaves it alone")] = None
    paused: bool | None = None
    group: Annotated[Group | None, Field(description="what it belongs to; null takes it out of its group")] = None


@router.post("", status_code=202, responses=SUBMITTED, openapi_extra=BODY, response_model=None)
async def submit_job(services: Reach, owner: Owner, request: Request, wait: Wait = None, key: Key = None) -> Response:
    """Hand in a job: an operation's fields, beside them `priority`, `tags`, `group`, `worker`, `not_before` and the
    like."""
    job = await services.submissions.submit(owner, await read_json(request), key=key)
    return await _accepted(services, owner, job, wait)


@router.put("/{job_id}", status_code=202, responses=SUBMITTED, openapi_extra=BODY, response_model=None)
async def put_job(services: Reach, owner: Owner, request: Request, job_id: str, wait: Wait = None) -> Response:
    """Hand in a job under the client's own id; again with the same body it is the same job."""
    job = await services.submissions.submit(owner, await read_json(request), job_id=job_id)
    return await _accepted(services, owner, job, wait)


@router.get("", responses=problems(403, 404, 422))
async def list_jobs(
    services: Reach,
    owner: Owner,
    *,
    state: Annotated[list[JobState] | None, Query(description="any of these states")] = None,
    operation: Annotated[str | None, Query(max_length=100)] = None,
    tag: Annotated[str | None, Query(max_length=100)] = None,
    group: Annotated[str | None, Query(max_length=100)] = None,
    before: Annotated[str | None, Query(max_length=64, description="`next` of the last page")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> JobPage:
    """Jobs, newest first."""
    found = services.tables.operations.find(operation) if operation else None
    wanted = Filter(owner, tuple(state or ()), found.id if found else operation, tag, before, limit, group)
    jobs = await services.store.jobs(wanted)
    return JobPage(jobs=[job_view(each) for each in jobs], next=jobs[-1].id if len(jobs) == limit else None)


@router.get("/{job_id}", responses=problems(403, 404))
async def read_job(services: Reach, owner: Owner, job_id: str) -> JobView:
    """The whole record."""
    return job_view(await services.store.get(job_id, owner))


@router.patch("/{job_id}", responses=problems(403, 404, 409, 413, 415, 422),
              openapi_extra=json_body({"$ref": "#/components/schemas/JobChange"}))  # fmt: skip
async def change_job(services: Reach, owner: Owner, request: Request, job_id: str) -> JobView:
    """Change priority, tags, group, whether it is kept, or set it aside and let it go on."""
    change = await read_model(request, JobChange)
    if not change.model_fields_set:
        known = ", ".join(JobChange.model_fields)
        raise InvalidRequest(InvalidValue("", "nothing is to be changed", f"Give at least one of {known}."))
    job = await services.store.get(job_id, owner)
    if change.paused is True:
        job = await services.store.request_pause(job_id, owner)
        await services.control.withdraw(job)
    elif change.paused is False:
        job = await services.store.resume(job_id, owner)
    if {"priority", "tags", "pinned", "group"} & change.model_fields_set:
        group = change.group or "" if "group" in change.model_fields_set else None
        job = await services.store.update(
            job_id, owner, priority=change.priority, tags=change.tags, pinned=change.pinned, group=group
        )
    services.control.wake()
    return job_view(await services.store.get(job.id, owner))


@router.post("/{job_id}/cancel", responses=problems(403, 404))
async def cancel_job(services: Reach, owner: Owner, job_id: str) -> JobView:
    """Cancel: at once while it waits, at the next step while it runs. One that is over stays as it is."""
    job = await services.store.request_cancel(job_id, owner)
    await services.control.withdraw(job)
    return job_view(await services.store.get(job_id, owner))


@router.delete("/{job_id}", responses=problems(403, 404))
async def delete_job(services: Reach, owner: Owner, job_id: str) -> JobView:
    """The same as cancel."""
    return await cancel_job(services, owner, job_id)


@router.post("/{job_id}/retry", status_code=202, responses=problems(403, 404, 409, 429, 503))
async def retry_job(services: Reach, owner: Owner, response: Response, job_id: str) -> AcceptedView:
    """A new job of the same resolved request, seed included; `retry_of` names the old one."""
    view = accepted_view(await services.submissions.retry(owner, job_id))
    response.headers["Location"] = view.url
    return view


async def wait_for(services: Services, owner: str, job_id: str, seconds: float) -> Job:
    """The job when it is over or the time is up, whichever comes first; at once when the server stops."""
    job = await services.store.get(job_id, owner)
    if not job.state.over and seconds > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), aclosing(services.hub.follow(job_id)) as events:
                async for _ in events:
                    continue
        job = await services.store.get(job_id, owner)
    return job


async def _accepted(services: Services, owner: str, job: Job, wait: float | None) -> Response:
    headers = {"Location": f"/v1/jobs/{job.id}"}
    if wait is None:
        return Response(accepted_view(job).model_dump_json(), 202, headers, "application/json")
    job = await wait_for(services, owner, job.id, wait)
    return Response(job_view(job).model_dump_json(), 200 if job.state.over else 202, headers, "application/json")

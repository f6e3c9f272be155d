"""Routes about the server itself: health, readiness, devices and workers, figures for Prometheus, stopping."""

from __future__ import annotations

import hmac
import os
import platform
import time
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel

import safelight
from safelight.core.states import JobState
from safelight.server.doors.native.routes import Reach, problems
from safelight.server.problems import NotAllowed, answer, document

router = APIRouter(tags=["server"])


class HealthView(BaseModel):
    """The process answers."""

    status: str
    version: str


class WorkerStatusView(BaseModel):
    """A worker process. `jobs`: open ones; `holds`: keys of weights in its memory; bytes of its device, and its RSS."""

    id: str
    state: str
    device: str
    device_name: str
    dtype: str
    pid: int
    jobs: list[str]
    holds: list[str]
    bytes_free: int
    bytes_held: int
    rss: int
    versions: dict[str, str]


class SystemView(BaseModel):
    """The server: versions, workers, and how many jobs are in each state."""

    version: str
    python: str
    platform: str
    pid: int
    uptime_s: float
    environment: str
    home: str
    default_model: str
    workers: list[WorkerStatusView]
    jobs: dict[JobState, int]
    listeners: int


class StoppingView(BaseModel):
    """The server has begun to stop; accepted jobs go on at its next start."""

    status: str
    pid: int


@router.get("/health")
async def health() -> HealthView:
    """200 as long as the process answers."""
    return HealthView(status="ok", version=safelight.__version__)


@router.get("/ready", responses=problems(503))
async def ready(services: Reach) -> HealthView:
    """200 when the store is open and there is a worker, or one may be started; else 503 with the reason."""
    reason = "The server is stopping." if not services.submissions.open else services.control.unready()
    if reason:
        return answer(document("stopping" if not services.submissions.open else "worker_unavailable", 503, reason))  # type: ignore[return-value]
    return HealthView(status="ready", version=safelight.__version__)


@router.get("/v1/system")
async def system(services: Reach) -> SystemView:
    """Devices, workers, versions, jobs by state."""
    return SystemView(
        version=safelight.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        pid=os.getpid(),
        uptime_s=time.monotonic() - services.started,
        environment=services.settings.environment,
        home=str(services.settings.storage.home),
        default_model=services.settings.models.default,
        workers=[WorkerStatusView.model_validate(each, from_attributes=True) for each in services.control.workers()],
        jobs=await services.store.counts(),
        listeners=services.hub.listeners,
    )


@router.get("/metrics", response_class=Response, responses={
    200: {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}}
})  # fmt: skip
async def metrics(services: Reach) -> Response:
    """Figures in Prometheus' text format."""
    counts = await services.store.counts()
    lines = [
        *_family("safelight_jobs", "gauge", "Jobs by state", [({"state": str(s)}, n) for s, n in counts.items()]),
        *_family("safelight_queue_length", "gauge", "Jobs that wait", [({}, counts.get(JobState.QUEUED, 0))]),
        *_family("safelight_event_listeners", "gauge", "Open event streams", [({}, services.hub.listeners)]),
        *_family("safelight_uptime_seconds", "counter", "Since the start", [({}, time.monotonic() - services.started)]),
    ]
    workers = services.control.workers()
    labels = [{"worker": each.id, "device": each.device} for each in workers]
    for name, help, values in (
        ("ready", "Whether the worker takes jobs", [int(each.state == "ready") for each in workers]),
        ("open_jobs", "Jobs it has open", [len(each.jobs) for each in workers]),
        ("free_bytes", "Device memory for weights and work", [each.bytes_free for each in workers]),
        ("held_bytes", "Device memory it holds", [each.bytes_held for each in workers]),
        ("resident_bytes", "Its resident set", [each.rss for each in workers]),
    ):
        lines += _family(f"safelight_worker_{name}", "gauge", help, list(zip(labels, values, strict=True)))
    return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4; charset=utf-8")


@router.post("/v1/shutdown", status_code=202, responses=problems(403))
async def shutdown(
    services: Reach, request: Request, authorization: Annotated[str | None, Header()] = None
) -> StoppingView:
    """Stop the server, for whoever can read the token in its data folder. Answers before it stops."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), services.token.encode()):
        raise NotAllowed(
            "Stopping the server needs the token in server.json of its data folder.",
            "Use `safelight stop` on the machine and account it runs on.",
        )
    services.stop()
    return StoppingView(status="stopping", pid=os.getpid())


def _family(name: str, kind: str, help: str, samples: list[tuple[dict[str, str], float]]) -> list[str]:
    """One metric with its samples, in Prometheus' text format."""
    lines = [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{pairs}}} {value}" if pairs else f"{name} {value}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

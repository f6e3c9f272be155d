"""The native door: `/v1`, and the server's own routes."""

from __future__ import annotations

from fastapi import APIRouter

from safelight.server.doors.native import artifacts, jobs, streams, system, tables


def routers() -> tuple[APIRouter, ...]:
    """The door's routers; streams stand before jobs, whose `/{job_id}` is the wider one."""
    return streams.router, jobs.router, artifacts.router, tables.router, system.router

"""What the doors may reach: protocols and values, so that no door imports a worker or the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from safelight.catalog.scan import Entry
from safelight.core.operations import Contract
from safelight.core.tables import Tables
from safelight.jobs.records import Job
from safelight.jobs.store import Store
from safelight.server.hub import Hub
from safelight.server.pictures import Pictures
from safelight.server.submissions import Submissions
from safelight.settings import Settings

OWNER = "local"
"""Whose jobs they are, as long as the server listens on this machine alone."""


@dataclass(frozen=True)
class WorkerView:
    """A worker as people see it. `state`: starting, ready, stopping or gone; `jobs`: ids it has open."""

    id: str
    state: str
    device: str
    device_name: str = ""
    dtype: str = ""
    pid: int = 0
    jobs: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    bytes_free: int = 0
    bytes_held: int = 0
    rss: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)


class Control(Protocol):
    """What runs jobs, as the doors see it."""

    def wake(self) -> None:
        """Something in the queue changed: look at it."""
        ...

    async def withdraw(self, job: Job) -> None:
        """Carry the owner's wish (a cancel or pause that the store has noted) to the worker that runs the job."""
        ...

    def workers(self) -> list[WorkerView]:
        """The workers there are."""
        ...

    def unready(self) -> str:
        """Why no job could run now, in words; empty where one could."""
        ...


class Catalog(Protocol):
    """What lies on disk. `default`: the name of the model that requests get when they name none."""

    default: str

    def entries(self) -> list[Entry]:
        """Every weights file there is, usable or not; reads the disk."""
        ...


@dataclass(frozen=True)
class Services:
    """Everything a door works with. `artifact_file`: where the content of that SHA-256 lies.

    `token`: proves that a caller may stop the server; `stop`: begins to stop it. `started`: monotonic seconds.
    """

    settings: Settings
    tables: Tables
    contract: Contract
    store: Store
    hub: Hub
    catalog: Catalog
    pictures: Pictures
    submissions: Submissions
    control: Control
    artifact_file: Callable[[str], Path]
    token: str
    stop: Callable[[], None]
    started: float

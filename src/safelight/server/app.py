"""The server, wired: store, files, catalog, tables, workers, dispatcher, hub and doors meet here and nowhere else.

Importing this loads no torch; building it starts nothing. The ASGI lifespan opens everything and closes it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

import safelight
from safelight.artifacts import Files
from safelight.catalog.hashes import FileHashes
from safelight.catalog.index import FolderCatalog
from safelight.catalog.named import NamedFolders
from safelight.core.operations import Contract
from safelight.core.tables import Tables, build_tables
from safelight.errors import InvalidRequest
from safelight.jobs.sqlite.store import SqliteStore
from safelight.jobs.store import Store
from safelight.jobs.upkeep import Folders, Retention
from safelight.server import problems, site
from safelight.server.dispatch import Dispatch
from safelight.server.doors.native import routers
from safelight.server.doors.native.routes import problems as described
from safelight.server.guard import Guard, is_loopback
from safelight.server.hub import Hub
from safelight.server.limits import BodyLimit
from safelight.server.pictures import Pictures
from safelight.server.services import Services
from safelight.server.single import FolderLock
from safelight.server.submissions import Submissions
from safelight.server.tidying import Tidying, retention_of
from safelight.server.webhooks.addresses import Addresses
from safelight.server.webhooks.outbox import Outbox
from safelight.server.webhooks.sender import Sender
from safelight.server.webhooks.signature import secret_of
from safelight.server.webhooks.wishes import Desk
from safelight.settings import InvalidSettings, Origin, SettingFault, Settings
from safelight.settings.load import FILE_NAME
from safelight.workers.files import FilesPool
from safelight.workers.handle import Launcher
from safelight.workers.local import LocalLauncher
from safelight.workers.spec import WorkerSpec

log = logging.getLogger(__name__)

MIB = 1024 * 1024
STOP_GRACE_S = 10.0
"""Seconds that workers have to write their checkpoints when the server stops."""


@dataclass
class App:
    """The program as an ASGI application.

    `on_stop`: what a shutdown over HTTP sets off. `grace_s`: what workers get for their checkpoints at the end.
    """

    settings: Settings
    web: FastAPI
    services: Services
    lock: FolderLock
    on_stop: Callable[[], None] = field(default=lambda: None)
    grace_s: float = STOP_GRACE_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self.web(scope, receive, send)

    def running(self) -> AbstractAsyncContextManager[Any]:
        """Everything opened, and closed again at the end: for who serves without the ASGI lifespan.

        Raises Conflict (another server has the folder) or StoreUnusable.
        """
        return self.web.router.lifespan_context(self.web)

    def begin_stop(self) -> None:
        """Accept nothing new and end all streams, so that open connections can close."""
        self.services.submissions.open = False
        self.services.hub.close()


def build(
    settings: Settings, *, store: Store | None = None, launcher: Launcher | None = None, tables: Tables | None = None
) -> App:
    """Everything, wired by `settings` and not yet started; InvalidSettings where the server may not listen there.

    `store`, `launcher`, `tables`: in place of SQLite, this machine's processes, and the built-in tables.
    """
    _check_host(settings)
    home = settings.storage.home
    tables = tables or build_tables(settings.extensions.modules)
    contract = Contract(tables.operations)
    store = store or SqliteStore(home / "safelight.db")
    folders = Folders(Files(home / "artifacts"), Files(home / "uploads"), home / "checkpoints", home / "thumbnails")
    files = FilesPool()
    hashes = FileHashes(home / "hashes.json")
    catalog = FolderCatalog(
        [home / "models", home / "loras", *settings.models.folders, *settings.models.lora_folders],
        settings.models.default,
        families=tables.families,
        hashes=hashes,
        named=NamedFolders(home / FILE_NAME),
    )
    hub = Hub(store)
    launcher = launcher or LocalLauncher(home)
    dispatch = Dispatch(store, hub, launcher, worker_specs(settings), settings=settings, operations=contract.table)
    pictures = Pictures(store, files, folders.uploads, folders.artifacts, folders.thumbnails)
    submissions = Submissions(
        store=store, contract=contract, tables=tables, catalog=catalog, pictures=pictures,
        worker_names=dispatch.names, max_queued=settings.jobs.max_queued,
        webhooks=Desk(settings.webhooks.enabled, Addresses(settings.webhooks.networks)),
    )  # fmt: skip
    submissions.accepted = dispatch.wake
    lock = FolderLock(home)

    def stop() -> None:
        app.on_stop()

    services = Services(
        settings=settings, tables=tables, contract=contract, store=store, hub=hub, catalog=catalog, pictures=pictures,
        submissions=submissions, control=dispatch, artifact_file=folders.artifacts.path, token=lock.token,
        stop=stop, started=time.monotonic(),
    )  # fmt: skip
    parts = Parts(lock, store, hub, catalog, hashes, files, folders, retention_of(settings), launcher, dispatch)
    web = _web(services, lambda web: parts.running(app))
    app = App(settings, web, services, lock)
    return app


@dataclass(frozen=True)
class Parts:
    """What lives as long as the server does, in the order in which it is opened; closed the other way round."""

    lock: FolderLock
    store: Store
    hub: Hub
    catalog: FolderCatalog
    hashes: FileHashes
    files: FilesPool
    folders: Folders
    retention: Retention
    launcher: Launcher
    dispatch: Dispatch

    def _first_look(self) -> None:
        """Ask for the default model; where there is none, requests without a name will be told so."""
        with contextlib.suppress(InvalidRequest):
            self.catalog.model(None)

    def _outbox(self, settings: Settings) -> Outbox:
        """The outbox of webhooks, begun. It looks names up beside those who hand jobs in, and never waits for them."""
        webhooks = settings.webhooks
        sender = Sender(Addresses(webhooks.networks), secret_of(settings.storage.home), webhooks.timeout_s)
        outbox = Outbox(self.store, sender, webhooks)
        outbox.begin()
        return outbox

    @asynccontextmanager
    async def running(self, app: App) -> AsyncIterator[None]:
        """Open all of it, and close what was opened, whatever happens."""
        async with AsyncExitStack() as stack:
            self.lock.acquire()
            stack.callback(self.lock.release)
            await self.store.open()
            stack.push_async_callback(self.store.close)
            stack.callback(self.store.listen(self.hub.stored))
            stack.callback(self.hashes.close)
            stack.push_async_callback(self.files.close)
            # The model that requests without a name mean is hashed now, so that their files all say its SHA-256.
            first = asyncio.create_task(asyncio.to_thread(self._first_look), name="first look at the models")
            stack.callback(first.cancel)
            tidying = await Tidying.begin(self.store, self.retention, self.folders)
            stack.push_async_callback(tidying.end)
            if app.settings.webhooks.enabled:
                stack.push_async_callback(self._outbox(app.settings).end)
            stack.push_async_callback(self.launcher.close)
            await self.dispatch.open()
            stack.push_async_callback(lambda: self.dispatch.close(app.grace_s))
            stack.callback(app.begin_stop)
            yield


def cores() -> int:
    """Cores that this process may run on: those it is bound to where the system binds processes, else all."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_specs(settings: Settings) -> list[WorkerSpec]:
    """The workers to keep: one on the device the settings name."""
    return [
        WorkerSpec(
            id="worker-1",
            device=settings.devices.device,
            dtype=settings.devices.dtype,
            channels_last=settings.performance.channels_last,
            threads=settings.devices.threads or cores(),
            memory_gib=settings.devices.memory_gib,
            memory_hard_gib=settings.devices.memory_hard_gib,
            max_batch=settings.performance.max_batch_size,
            checkpoint_interval_s=settings.jobs.checkpoint_interval_s,
            preview_steps=settings.jobs.preview_steps,
            artifacts=str(settings.storage.home / "artifacts"),
            converted=str(settings.storage.home / "cache" / "weights"),
            converted_gib=settings.storage.converted_gib,
            heartbeat_s=settings.jobs.heartbeat_s,
            extensions=settings.extensions.modules,
        )
    ]


def _web(services: Services, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> FastAPI:
    """The doors and pages behind the guards. Middleware: the last that is added is the first to see a request."""
    web = FastAPI(
        title="Safelight", version=safelight.__version__, docs_url=None, redoc_url=None, openapi_url=None,
        lifespan=lifespan, responses={"default": described(422)[422]},
    )  # fmt: skip
    web.state.services = services
    problems.install(web)
    for router in (*routers(), site.router):
        web.include_router(router)
    web.add_middleware(BodyLimit, limit=services.settings.server.max_body_mib * MIB)
    web.add_middleware(Guard, hosts=(services.settings.server.host,))
    return web


def _check_host(settings: Settings) -> None:
    host = settings.server.host
    if not is_loopback(host):
        allowed = "Only this machine's own addresses (127.0.0.1, ::1, localhost) are safe without API keys. Reach the "
        allowed += "server from elsewhere through an SSH tunnel: ssh -L 8484:127.0.0.1:8484 HOST."
        origin = settings.origins.get("server.host", Origin())
        raise InvalidSettings(SettingFault("server.host", repr(host), allowed, origin))

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.conformance.stores.making import Clock

from safelight.jobs.memory import MemoryStore
from safelight.jobs.sqlite.store import SqliteStore
from safelight.jobs.store import Store

Reopen = Callable[[], Awaitable[Store]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def wall() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
def tick() -> Clock:
    return Clock(50.0)


@pytest.fixture(params=["memory", "sqlite"])
async def reopen(request: pytest.FixtureRequest, tmp_path: Path, wall: Clock, tick: Clock) -> AsyncIterator[Reopen]:
    """Opens the store; called again, it is a server that was restarted on the same data."""
    stores: list[MemoryStore | SqliteStore] = []

    async def open_again() -> Store:
        for store in stores[-1:]:
            await store.close()
        if request.param == "sqlite":
            stores.append(SqliteStore(tmp_path / "jobs.sqlite3", wall=wall, tick=tick))
        elif not stores:
            stores.append(MemoryStore(wall=wall, tick=tick))
        await stores[-1].open()
        return stores[-1]

    yield open_again
    await stores[-1].close()


@pytest.fixture
async def store(reopen: Reopen) -> Store:
    return await reopen()

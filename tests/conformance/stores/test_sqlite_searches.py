"""Searches that take long, and what else is read meanwhile."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from tests.conformance.stores.making import started

from safelight.jobs import acts
from safelight.jobs.records import ArtifactFilter, Filter
from safelight.jobs.sqlite.store import READERS, SEARCHERS, SqliteStore

pytestmark = pytest.mark.anyio


async def test_searches_that_take_long_hold_up_nothing_that_dispatches(tmp_path: Path, monkeypatch) -> None:
    go, begun = threading.Event(), threading.Semaphore(0)

    def slow(*_) -> list:
        begun.release()
        assert go.wait(30)
        return []

    monkeypatch.setattr(acts, "artifacts", slow)
    monkeypatch.setattr(acts, "jobs", slow)
    store = SqliteStore(tmp_path / "jobs.sqlite3")
    await store.open()
    job = await started(store)
    searches = [
        asyncio.ensure_future(search)
        for _ in range(READERS + SEARCHERS)
        for search in (store.artifacts(ArtifactFilter()), store.jobs(Filter()))
    ]
    for _ in range(SEARCHERS):
        assert await asyncio.to_thread(begun.acquire, True, 10)
    try:
        async with asyncio.timeout(10):
            assert [each.id for each in await store.running()] == [job.id]
            assert await store.waiting(0.0) == [] and (await store.get(job.id)).id == job.id
        assert not any(each.done() for each in searches)
    finally:
        go.set()
    assert await asyncio.gather(*searches) == [[]] * len(searches)
    await store.close()

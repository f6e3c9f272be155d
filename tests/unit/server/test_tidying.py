"""Upkeep on a clock: a look that fails is told, and the next one comes all the same."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from safelight.artifacts import Files
from safelight.jobs.memory import MemoryStore
from safelight.jobs.upkeep import Folders, Retention
from safelight.server import tidying
from safelight.server.tidying import Tidying

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Failing(MemoryStore):
    """A store whose first looks fail, each in another way."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def finished(self):
        if self.errors:
            raise self.errors.pop(0)
        return await super().finished()


def forgotten(root: Path) -> tuple[Folders, Path]:
    """Folders with one old file that no row names, and where it lies."""
    folders = Folders(Files(root / "artifacts"), Files(root / "uploads"), root / "checkpoints", root / "thumbnails")
    path = folders.artifacts.path(folders.artifacts.put(b"nobody names it"))
    os.utime(path, (0, 0))
    return folders, path


async def gone(path: Path) -> None:
    async with asyncio.timeout(20):
        while path.exists():
            await asyncio.sleep(0.01)


async def test_tidying_outlives_any_look_that_fails(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tidying, "EVERY_S", 0.01)
    folders, path = forgotten(tmp_path)
    store = Failing(OSError("the disk is full"), ValueError("a fault"), RuntimeError("another"))
    await store.open()
    with caplog.at_level(logging.ERROR, tidying.__name__):
        task = await Tidying.begin(store, Retention(), folders)
        await gone(path)
        await task.end()
    told = [str(record.exc_info[1]) for record in caplog.records if record.name == tidying.__name__]
    assert told == ["the disk is full", "a fault", "another"]
    await store.close()


async def test_a_stray_file_ends_nothing(tmp_path, caplog):
    folders, path = forgotten(tmp_path)
    stray = path.with_name("Thumbs.db")
    stray.write_bytes(b"left by a file manager")
    os.utime(stray, (0, 0))
    store = MemoryStore()
    await store.open()
    with caplog.at_level(logging.ERROR, tidying.__name__):
        task = await Tidying.begin(store, Retention(), folders)
        await gone(path)
        await task.end()
    assert not [record for record in caplog.records if record.name == tidying.__name__]
    assert stray.exists()
    await store.close()


async def test_the_end_raises_nothing_of_a_look_and_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(tidying, "EVERY_S", 0.01)
    folders, _ = forgotten(tmp_path)
    store = Failing(*[ValueError("a fault")] * 10_000)
    await store.open()
    task = await Tidying.begin(store, Retention(), folders)
    async with asyncio.timeout(20):
        while len(store.errors) == 10_000:
            await asyncio.sleep(0.01)
    await task.end()
    left = len(store.errors)
    await asyncio.sleep(0.05)
    assert len(store.errors) == left < 10_000
    await store.close()

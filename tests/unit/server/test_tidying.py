"""Upkeep on a clock: a look that fails is told, and the next one comes all the same."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

import pytest
from tests.conformance.stores.making import artifact, started, submitted

from safelight.artifacts import Files
from safelight.errors import InvalidRequest, NotFound, StoreUnusable
from safelight.jobs.memory import MemoryStore
from safelight.jobs.records import ArtifactFilter, Upload
from safelight.jobs.upkeep import GRACE_S, Folders, Retention, tidy
from safelight.server import tidying
from safelight.server.pictures import Pictures
from safelight.server.tidying import Grace, Tidying

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
        async with asyncio.timeout(20):
            while len(caplog.records) < 3:
                await asyncio.sleep(0.01)
        again = folders.artifacts.path(folders.artifacts.put(b"nor this"))
        os.utime(again, (0, 0))
        await gone(path)
        await gone(again)
        await task.end()
    told = [str(record.exc_info[1]) for record in caplog.records if record.name == tidying.__name__]
    assert told == ["the disk is full", "a fault", "another"]
    await store.close()


class Full(MemoryStore):
    """A store that can be read and takes nothing more."""

    full = False

    async def write(self, act):
        if self.full:
            raise StoreUnusable("The disk is full.")
        return await super().write(act)


async def test_what_nobody_names_goes_though_the_store_cannot_write(tmp_path, caplog):
    folders, path = forgotten(tmp_path)
    store = Full()
    await store.open()
    job = await started(store)
    named = folders.artifacts.put(b"a picture of a job")
    os.utime(folders.artifacts.path(named), (0, 0))
    await store.add_artifact(artifact(job, sha256=named), 1)
    for leftover in (job.id, "of a job that is over"):
        (folders.checkpoints / leftover).mkdir(parents=True)
    store.full = True
    with caplog.at_level(logging.ERROR, tidying.__name__):
        task = await Tidying.begin(store, Retention(), folders)
        await gone(path)
        await gone(folders.checkpoints / "of a job that is over")
        async with asyncio.timeout(20):
            while not caplog.records:
                await asyncio.sleep(0.01)
        await task.end()
    assert [str(each.exc_info[1]) for each in caplog.records if each.name == tidying.__name__] == ["The disk is full."]
    assert folders.artifacts.path(named).exists() and (folders.checkpoints / job.id).exists()
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


# ---- clocks that jump


class Clocks:
    """A wall clock and a monotonic one, which a test moves together or apart."""

    def __init__(self) -> None:
        self.wall_s, self.tick_s = 1_800_000_000.0, 50.0

    def wall(self) -> float:
        return self.wall_s

    def tick(self) -> float:
        return self.tick_s

    def pass_s(self, seconds: float) -> None:
        self.wall_s += seconds
        self.tick_s += seconds


DAY_S = 86_400.0


@pytest.mark.parametrize("jump", [40 * DAY_S, -40 * DAY_S, 7200.0])
def test_after_a_jump_no_file_is_old_until_the_grace_has_really_passed(jump):
    clocks = Clocks()
    grace = Grace(clocks.wall, clocks.tick)
    assert grace.files_before() == clocks.wall_s - GRACE_S
    clocks.pass_s(600)
    clocks.wall_s += 1.5  # a clock that is set by the network now and then
    assert grace.files_before() == clocks.wall_s - GRACE_S
    clocks.pass_s(600)
    clocks.wall_s += jump
    assert grace.files_before() == 0.0
    clocks.pass_s(GRACE_S - 1)
    assert grace.files_before() == 0.0
    clocks.pass_s(2)
    assert grace.files_before() == clocks.wall_s - GRACE_S


async def test_a_jump_of_weeks_removes_nothing_young_and_what_is_old_goes_in_its_time(tmp_path, monkeypatch, caplog):
    """A job, an upload, a picture in the bin, and a file whose row is on its way: all of it young when the wall clock
    jumps by 40 days, and old after as much time has really passed."""
    monkeypatch.setattr(tidying, "EVERY_S", 0.01)
    clocks = Clocks()
    folders, unnamed = forgotten(tmp_path)
    os.utime(unnamed, (clocks.wall_s, clocks.wall_s))
    store = MemoryStore(wall=clocks.wall, tick=clocks.tick)
    await store.open()
    job = await started(store)
    await store.add_artifact(artifact(job), 1)
    await store.succeed(job.id, 1, {}, {}, 0)
    binned = (await store.get(job.id)).artifacts[0]
    await store.update_artifact(binned.id, binned=True)
    await store.add_upload(Upload("a" * 64, "ada", "image/png", 1, 1, 1))
    rounds = Rounds(store)
    task = await Tidying.begin(rounds, Retention(), folders, clocks.wall, clocks.tick)
    await rounds.more()
    clocks.wall_s += 40 * DAY_S
    await rounds.more()
    assert [each.id for each in await store.artifacts(ArtifactFilter(binned=True))] == [binned.id]
    assert await store.upload("a" * 64) and unnamed.exists()
    assert any("jumped" in record.message for record in caplog.records)
    clocks.pass_s(8 * DAY_S)
    await rounds.more()
    assert (await store.get(job.id)).artifacts == () and not unnamed.exists()
    clocks.pass_s(23 * DAY_S)
    await rounds.more()
    await task.end()
    with pytest.raises(NotFound):
        await store.get(job.id)
    with pytest.raises(NotFound):
        await store.upload("a" * 64)


class Rounds:
    """A store that counts the rounds of tidying that were begun on it."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.begun = 0

    def __getattr__(self, name: str):
        return getattr(self.store, name)

    async def keep_time(self) -> None:
        self.begun += 1
        await self.store.keep_time()

    async def more(self) -> None:
        """Wait until a whole round was made."""
        wanted = self.begun + 2
        async with asyncio.timeout(20):
            while self.begun < wanted:
                await asyncio.sleep(0.005)


async def test_a_picture_that_a_job_is_about_to_read_stays_though_it_leaves_the_bin(tmp_path):
    """It is resolved, then tidied away for good, and only then is the job that reads it stored."""
    clocks = Clocks()
    clocks.wall_s = time.time()
    folders, unnamed = forgotten(tmp_path)
    store = MemoryStore(wall=clocks.wall, tick=clocks.tick)
    await store.open()
    job = await started(store)
    sha256 = folders.artifacts.put(b"an old picture")
    os.utime(folders.artifacts.path(sha256), (0, 0))
    old, _ = await store.add_artifact(artifact(job, sha256=sha256), 1)
    await store.succeed(job.id, 1, {}, {}, 0)
    await store.update_artifact(old.id, binned=True)
    clocks.tick_s += 8 * DAY_S
    pictures = Pictures(store, None, folders.uploads, folders.artifacts, folders.thumbnails)
    ref = await pictures.resolve("ada", old.id, "image")
    done = await tidy(store, Retention(), folders, time.time() - GRACE_S)
    assert (done.binned, done.files) == (1, 1) and not unnamed.exists()
    await submitted(store, files=(ref.sha256,))
    assert Path(ref.path).read_bytes() == b"an old picture"
    assert await store.named([sha256]) == {sha256}
    with pytest.raises(InvalidRequest, match="no upload or artifact"):
        await pictures.resolve("ada", old.id, "image")

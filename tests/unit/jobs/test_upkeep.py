"""Retention: the decision by tables, the deed on real files and both stores."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from safelight.artifacts import Files
from safelight.jobs.memory import MemoryStore
from safelight.jobs.records import Artifact, Finished, NewJob, Upload
from safelight.jobs.sqlite.store import SqliteStore
from safelight.jobs.upkeep import DAY_S, GRACE_S, Folders, Retention, Tidied, tidy, to_forget

NOW = 1_800_000_000.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def ended(job_id: str, days_ago: float, size: int = 100, pinned: bool = False) -> Finished:
    return Finished(job_id, NOW - days_ago * DAY_S, size, pinned)


@pytest.mark.parametrize(
    ("finished", "retention", "going"),
    [
        ([], Retention(), []),
        ([ended("a", 31), ended("b", 29)], Retention(), ["a"]),
        ([ended("a", 30), ended("b", 30.1)], Retention(), ["b"]),
        ([ended("a", 9999)], Retention(days=None), []),
        ([ended("a", 31, pinned=True)], Retention(), []),
        ([ended("c", 1), ended("a", 3), ended("b", 2)], Retention(bytes=200), ["a"]),
        ([ended("c", 1), ended("a", 3), ended("b", 2)], Retention(bytes=199), ["a", "b"]),
        ([ended("a", 3), ended("b", 2)], Retention(bytes=200), []),
        ([ended("a", 3, pinned=True), ended("b", 2), ended("c", 1)], Retention(bytes=200), ["b"]),
        ([ended("a", 3, size=0), ended("b", 2), ended("c", 1)], Retention(bytes=100), ["b"]),
        ([ended("a", 40), ended("b", 2), ended("c", 1)], Retention(bytes=200), ["a"]),
        ([ended("a", 40, pinned=True), ended("b", 2)], Retention(bytes=0), ["b"]),
    ],
    ids=["none", "days", "exactly", "for-ever", "pinned", "bytes", "bytes-more", "bytes-fit", "pinned-counts",
         "empty-frees-nothing", "age-makes-room", "all"],
)  # fmt: skip
def test_who_goes(finished: list[Finished], retention: Retention, going: list[str]) -> None:
    assert to_forget(finished, retention, NOW) == going


class Clock:
    """Time that a test sets: the wall clock and the monotonic one alike."""

    now = NOW

    def __call__(self) -> float:
        return self.now


class Place:
    """A store with its folders, and a time machine."""

    def __init__(self, store: MemoryStore | SqliteStore, clock: Clock, root: Path) -> None:
        self.store, self.clock = store, clock
        self.folders = Folders(
            Files(root / "artifacts"), Files(root / "uploads"), root / "checkpoints", root / "thumbnails"
        )

    async def finished(self, job_id: str, *contents: bytes, days_ago: float) -> str:
        self.clock.now = NOW - days_ago * DAY_S
        await self.queued(job_id)
        await self.store.claim(job_id, "w0", 10.0)
        for index, content in enumerate(contents):
            sha256 = self.put(self.folders.artifacts, content, days_ago)
            found = Artifact(f"{job_id}-{index}", job_id, index, "ada", sha256, "image/png", len(content), 1, 1, 0)
            await self.store.add_artifact(found, 1)
        await self.store.succeed(job_id, 1, {}, {}, 0)
        self.clock.now = NOW
        return job_id

    async def queued(self, job_id: str, *files: str) -> None:
        (self.folders.checkpoints / job_id / "1").mkdir(parents=True)
        (self.folders.checkpoints / job_id / "1" / "x.safetensors").write_bytes(b"x")
        await self.store.submit(NewJob(job_id, "ada", "image.generate", {}, {}, "", files=files))

    async def uploaded(self, content: bytes, days_ago: float) -> str:
        self.clock.now = NOW - days_ago * DAY_S
        sha256 = self.put(self.folders.uploads, content, days_ago)
        await self.store.add_upload(Upload(sha256, "ada", "image/png", len(content), 1, 1))
        self.clock.now = NOW
        return sha256

    @staticmethod
    def put(files: Files, content: bytes, days_ago: float) -> str:
        sha256 = files.put(content)
        os.utime(files.path(sha256), (NOW - days_ago * DAY_S,) * 2)
        return sha256

    def there(self) -> set[bytes]:
        return {
            files.path(sha256).read_bytes()
            for files in (self.folders.artifacts, self.folders.uploads)
            for sha256, _ in files
        }

    def thumbnail(self, content: bytes) -> Path:
        """A thumbnail of that content, made."""
        sha256 = hashlib.sha256(content).hexdigest()
        path = self.folders.thumbnails / sha256[:2] / f"{sha256}-256.webp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"small")
        return path

    def checkpoints(self) -> set[str]:
        return {path.name for path in self.folders.checkpoints.iterdir()}

    async def tidy(self, **retention) -> Tidied:
        return await tidy(self.store, Retention(**retention), self.folders, NOW - GRACE_S)


@pytest.fixture(params=["memory", "sqlite"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    clock = Clock()
    memory = request.param == "memory"
    store = (
        MemoryStore(wall=clock, tick=clock)
        if memory
        else SqliteStore(tmp_path / "jobs.sqlite3", wall=clock, tick=clock)
    )
    await store.open()
    yield Place(store, clock, tmp_path)
    await store.close()


@pytest.mark.anyio
async def test_old_jobs_go_with_the_files_that_they_alone_name(place: Place) -> None:
    await place.finished("old", b"own", b"shared", days_ago=40)
    await place.finished("young", b"shared", days_ago=2)
    await place.queued("waiting")
    assert await place.tidy() == Tidied(jobs=1, binned=0, uploads=0, files=1, bytes=3, checkpoints=2)
    assert [job.id for job in await place.store.finished()] == ["young"]
    assert place.there() == {b"shared"}
    assert place.checkpoints() == {"waiting"}
    assert await place.tidy() == Tidied(0, 0, 0, 0, 0, 0)


@pytest.mark.anyio
async def test_pinned_jobs_keep_their_files(place: Place) -> None:
    await place.finished("old", b"own", days_ago=400)
    await place.store.update("old", pinned=True)
    assert (await place.tidy(days=1, bytes=0)).jobs == 0
    assert place.there() == {b"own"}


@pytest.mark.anyio
async def test_a_picture_that_a_waiting_job_reads_stays(place: Place) -> None:
    await place.finished("old", b"source", days_ago=40)
    source = (await place.store.get("old")).artifacts[0].sha256
    await place.queued("reader", source)
    assert (await place.tidy()).jobs == 1
    assert place.there() == {b"source"}
    await place.store.request_cancel("reader")
    await place.store.forget(["reader"])
    assert (await place.tidy()).files == 1
    assert place.there() == set()


@pytest.mark.anyio
async def test_uploads_that_no_job_reads_go_when_old(place: Place) -> None:
    read, _, _ = [await place.uploaded(content, days) for content, days in ((b"r", 40), (b"idle", 40), (b"new", 3))]
    await place.queued("reader", read)
    assert await place.tidy() == Tidied(jobs=0, binned=0, uploads=1, files=1, bytes=4, checkpoints=0)
    assert place.there() == {b"r", b"new"}


@pytest.mark.anyio
async def test_a_file_whose_row_is_still_on_the_way_stays(place: Place) -> None:
    place.put(place.folders.artifacts, b"just put", (GRACE_S - 60) / DAY_S)
    place.put(place.folders.artifacts, b"forgotten", (GRACE_S + 60) / DAY_S)
    assert (await place.tidy()).files == 1
    assert place.there() == {b"just put"}


@pytest.mark.anyio
async def test_checkpoints_of_unknown_jobs_go(place: Place) -> None:
    (place.folders.checkpoints / "nobody").mkdir(parents=True)
    assert (await place.tidy()).checkpoints == 1
    assert place.checkpoints() == set()


@pytest.mark.anyio
async def test_bytes(place: Place) -> None:
    for n in range(4):
        await place.finished(f"j{n}", bytes([n]) * 100, days_ago=4 - n)
    assert (await place.tidy(bytes=250)).bytes == 200
    assert [job.id for job in await place.store.finished()] == ["j2", "j3"]


@pytest.mark.anyio
async def test_what_lies_long_in_the_bin_goes_with_the_file_that_it_alone_names(place: Place) -> None:
    await place.finished("done", b"own", b"shared", b"late", b"kept", days_ago=20)
    await place.finished("other", b"shared", days_ago=20)
    await place.finished("pinned", b"held", days_ago=20)
    await place.store.update("pinned", pinned=True)
    thumbnails = {content: place.thumbnail(content) for content in (b"own", b"shared", b"late", b"held")}
    for artifact_id, days_ago in (("done-0", 8), ("done-1", 8), ("done-2", 6), ("pinned-0", 8)):
        place.clock.now = NOW - days_ago * DAY_S
        await place.store.update_artifact(artifact_id, binned=True)
    place.clock.now = NOW
    assert await place.tidy(bin_days=None) == Tidied(0, 0, 0, 0, 0, 3)
    assert await place.tidy() == Tidied(jobs=0, binned=2, uploads=0, files=1, bytes=3, checkpoints=0)
    assert place.there() == {b"shared", b"late", b"kept", b"held"}
    assert {content for content, path in thumbnails.items() if path.exists()} == {b"shared", b"late", b"held"}
    assert [each.index for each in (await place.store.get("done")).artifacts] == [2, 3]


@pytest.mark.anyio
async def test_a_favourite_keeps_its_job_and_a_running_job_its_bin(place: Place) -> None:
    await place.finished("old", b"loved", days_ago=400)
    await place.store.update_artifact("old-0", favourite=True)
    await place.queued("running")
    await place.store.claim("running", "w0", 10.0)
    sha256 = place.put(place.folders.artifacts, b"half a batch", 20)
    await place.store.add_artifact(Artifact("r-0", "running", 0, "ada", sha256, "image/png", 12, 1, 1, 0), 1)
    place.clock.now = NOW - 20 * DAY_S
    await place.store.update_artifact("r-0", binned=True)
    place.clock.now = NOW
    assert await place.tidy(bytes=0) == Tidied(0, 0, 0, 0, 0, 1)
    assert place.there() == {b"loved", b"half a batch"}

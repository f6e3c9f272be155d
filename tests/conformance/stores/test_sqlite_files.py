"""The file: its pragmas, migrations and copies, and what is said where it cannot be used."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.conformance.stores.making import new_job, submitted

from safelight.core.states import JobState
from safelight.errors import StoreUnusable
from safelight.jobs.sqlite.schema import Migration, connect, prepare, shipped
from safelight.jobs.sqlite.store import SqliteStore

pytestmark = pytest.mark.anyio

NEXT = Migration(shipped()[-1].number + 1, "ALTER TABLE jobs ADD COLUMN colour TEXT; CREATE TABLE more (x);")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "jobs.sqlite3"


async def filled(path: Path) -> str:
    """A store with one job; its id."""
    store = SqliteStore(path)
    await store.open()
    job = await submitted(store)
    await store.close()
    return job.id


async def refusal(path: Path) -> StoreUnusable:
    with pytest.raises(StoreUnusable) as caught:
        await SqliteStore(path, busy_timeout_s=0.1).open()
    return caught.value


def test_commits_are_synced(path: Path) -> None:
    with closing(prepare(path, 1.0)) as connection:
        pragmas = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}  # 2: FULL


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    assert [each.number for each in shipped()] == list(range(1, len(shipped()) + 1))


async def test_a_migration_copies_first_and_keeps_everything(path: Path) -> None:
    job_id = await filled(path)
    with closing(prepare(path, 1.0, [*shipped(), NEXT])) as connection:
        assert connection.execute("SELECT id, colour FROM jobs").fetchall()[0][:] == (job_id, None)
        assert connection.execute("PRAGMA user_version").fetchone()[0] == NEXT.number
    copy = path.with_name(f"{path.name}.version-{NEXT.number - 1}")
    store = SqliteStore(copy)
    await store.open()
    assert (await store.get(job_id)).state is JobState.QUEUED
    await store.close()


async def test_a_new_database_needs_no_copy(path: Path) -> None:
    await filled(path)
    await filled(path)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


async def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    job_id = await filled(path)
    broken = Migration(NEXT.number, "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(StoreUnusable, match="nowhere"):
        prepare(path, 1.0, [*shipped(), broken])
    with closing(connect(path, 1.0)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone()[0] == 0
    store = SqliteStore(path)
    await store.open()
    assert (await store.get(job_id)).id == job_id
    await store.close()


async def test_a_newer_store_is_refused_with_the_way_back(path: Path) -> None:
    job_id = await filled(path)
    prepare(path, 1.0, [*shipped(), NEXT]).close()
    error = await refusal(path)
    assert f"version {NEXT.number}" in error.message
    copy = path.with_name(f"{path.name}.version-{NEXT.number - 1}")
    assert f"mv {copy} {path}" in error.hint
    shutil.move(copy, path)
    store = SqliteStore(path)
    await store.open()
    assert (await store.get(job_id)).id == job_id
    await store.close()


async def test_a_newer_store_without_a_copy_is_refused_all_the_same(path: Path) -> None:
    prepare(path, 1.0, [*shipped(), NEXT]).close()
    assert "Install" in (await refusal(path)).hint


async def test_a_damaged_file_is_refused_and_left_alone(path: Path) -> None:
    await filled(path)
    for damage in (b"not a database at all" * 300, path.read_bytes()[:5000] + bytes(8192) + path.read_bytes()[13192:]):
        path.write_bytes(damage)
        error = await refusal(path)
        assert str(path) in error.message
        assert "Move it away" in error.hint
        assert path.read_bytes() == damage


async def test_a_foreign_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (x)")
    assert "not one of Safelight's" in (await refusal(path)).message


async def test_a_locked_database_is_refused_and_opens_when_free(path: Path) -> None:
    await filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "Another program holds it" in (await refusal(path)).hint
    await filled(path)


async def test_a_write_waits_for_a_lock_then_says_so(path: Path) -> None:
    store = SqliteStore(path, busy_timeout_s=0.1)
    await store.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnusable, match="locked"):
            await store.submit(new_job())
    assert (await store.submit(new_job()))[1]
    await store.close()


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "writable" in (await refusal(tmp_path / "file" / "jobs.sqlite3")).hint


async def test_a_closed_store_says_so(path: Path) -> None:
    store = SqliteStore(path)
    for _ in range(2):
        for call in (store.submit(new_job()), store.counts()):
            with pytest.raises(StoreUnusable, match="not open"):
                await call
        await store.open()
        await store.close()

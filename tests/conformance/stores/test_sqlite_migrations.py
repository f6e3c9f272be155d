"""Databases of earlier versions, with jobs in them, as they are brought up to date."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conformance.stores.making import Clock, artifact, checkpoint, started, submitted

from safelight.core.events import EventKind
from safelight.core.states import AttemptEnd
from safelight.errors import StoreUnusable
from safelight.jobs.records import ArtifactFilter, Filter, Job, Upload, Webhook
from safelight.jobs.sqlite.schema import prepare, shipped
from safelight.jobs.sqlite.store import SqliteStore

pytestmark = pytest.mark.anyio

NEWEST = shipped()[-1].number
OLDER = range(1, NEWEST)


async def life(path: Path) -> None:
    """A database with jobs in every state, and all that can hang on them."""
    store = SqliteStore(path, wall=Clock(1_800_000_000.0), tick=Clock(50.0))
    await store.open()
    resolved = {"prompt": "Ein Haus am SEE", "model": {"name": "Postcards"}, "seed": 7}
    done = await started(store, resolved=resolved, tags=("tag",), idempotency_key="k")
    await store.append(done.id, 1, [(EventKind.STEP, {"step": 1})])
    await store.add_artifact(artifact(done, seed=2**64 - 1), 1)
    await store.succeed(done.id, 1, {"text": "ü"}, {"denoise": 1.5}, 7)
    failed = await started(store, owner="bob", prompt="\ud800", resolved={"prompt": "\ud800"})
    await store.add_artifact(artifact(failed), 1)
    await store.release(failed.id, 1, AttemptEnd.REFUSED, "no", kind="k", hint="h", trace="t")
    running = await started(store)
    await store.set_checkpoint(checkpoint(running))
    waiting = await submitted(store, priority=3, files=("f" * 64,))
    await store.request_pause(waiting.id)
    await submitted(store, retry_of=done.id)
    await store.add_upload(Upload("f" * 64, "ada", "image/png", 1, 1, 1))
    await store.put_note("note", {"n": 1})
    await store.close()


def as_of(version: int, new: Path, old: Path) -> None:
    """The same rows in a database that only the first migrations made: what the program of then would have left."""
    prepare(old, 1.0, shipped()[:version]).close()
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS new", (str(new),))
        connection.execute("BEGIN")
        tables = connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'").fetchall()
        for (table,) in sorted(tables, key=lambda each: each != ("jobs",)):
            if table in ("tally", "sqlite_sequence"):
                continue  # the triggers and SQLite itself keep these
            columns = ", ".join(f'"{row[1]}"' for row in connection.execute(f"PRAGMA main.table_info({table})"))
            connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
        connection.execute("COMMIT")


async def everything(store: SqliteStore) -> list[object]:
    jobs = [await store.get(job.id) for job in await store.jobs(Filter())]
    bare = [replace(job, weights_bytes=0) for job in jobs]
    return [bare, await store.events_of(None), await store.artifacts(ArtifactFilter()), await store.finished(),
            await store.counts(), await store.notes("note"), await store.upload("f" * 64)]  # fmt: skip


@pytest.fixture
async def new(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "jobs.sqlite3"
    await life(path)
    return path


@pytest.mark.parametrize("version", OLDER)
async def test_everything_of_an_older_database_is_found_again(version: int, new: Path, tmp_path: Path) -> None:
    old = tmp_path / "old" / "jobs.sqlite3"
    as_of(version, new, old)
    store, reference = SqliteStore(old), SqliteStore(new)
    await store.open()
    await reference.open()
    assert await everything(store) == await everything(reference)
    await reference.close()

    found = await store.artifacts(ArtifactFilter(text="see haus", model="postcards", seed=2**64 - 1))
    assert [each.owner for each in found] == ["ada"]
    job: Job = await submitted(store, group="grid", webhook=Webhook("https://example.org", ("queued",)))
    assert len(await store.undelivered()) == 1
    claimed = await store.claim(job.id, "w0", 10.0)
    assert claimed is not None
    assert (await store.set_plan(job.id, 1, {"dtype": "fp32"})).group == "grid"
    await store.close()


@pytest.mark.parametrize("version", OLDER)
async def test_the_older_program_refuses_it_and_goes_on_with_the_copy(version: int, new: Path, tmp_path: Path) -> None:
    old = tmp_path / "old" / "jobs.sqlite3"
    as_of(version, new, old)
    with closing(sqlite3.connect(old)) as connection:
        before = list(connection.iterdump())
    store = SqliteStore(old)
    await store.open()
    await store.close()
    copy = old.with_name(f"{old.name}.version-{version}")
    with pytest.raises(StoreUnusable, match=f"has version {NEWEST}; this program knows versions up to {version}") as no:
        prepare(old, 1.0, shipped()[:version])
    assert f"mv {copy} {old}" in no.value.hint
    shutil.move(copy, old)
    with closing(prepare(old, 1.0, shipped()[:version])) as connection:
        assert list(connection.iterdump()) == before

"""Group commit: many writes share a transaction, and one that fails fails alone."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from tests.conformance.stores.making import new_job

from safelight.core.states import JobState
from safelight.errors import Conflict, StoreUnusable
from safelight.jobs.rows import Now, Rows
from safelight.jobs.sqlite.schema import connect, prepare
from safelight.jobs.sqlite.store import SqliteStore
from safelight.jobs.sqlite.writer import MAX_GROUP, Writer

pytestmark = pytest.mark.anyio


class Held:
    """A writer whose thread is held in a first write until `go`, so that what follows waits together."""

    def __init__(self, path: Path) -> None:
        self.connection = prepare(path, 1.0)
        self.statements: list[str] = []
        self.connection.set_trace_callback(self.statements.append)
        self.told: list[object] = []
        self.writer = Writer(self.connection, path, lambda: Now(1.0, 1.0, 1.0), self.told.extend)
        self._entered, self._gate = threading.Event(), threading.Event()

    def _hold(self, _: Rows) -> None:
        self._entered.set()
        assert self._gate.wait(20)

    async def together(self, *acts):
        first = asyncio.ensure_future(self.writer.write(self._hold))
        await asyncio.to_thread(self._entered.wait, 20)
        answers = [asyncio.ensure_future(self.writer.write(act)) for act in acts]
        await asyncio.sleep(0)
        self._gate.set()
        await first
        return await asyncio.gather(*answers, return_exceptions=True)


def note(key: str):
    return lambda rows: rows.put_note(key, {})


async def test_what_waits_shares_one_commit(tmp_path: Path) -> None:
    held = Held(tmp_path / "db")
    await held.together(*(note(f"n{i}") for i in range(MAX_GROUP + 10)))
    await held.writer.close()
    assert held.statements.count("COMMIT") == 3  # the first, a full group, the rest
    with connect(tmp_path / "db", 1.0) as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone()[0] == MAX_GROUP + 10
    connection.close()


async def test_a_write_that_fails_leaves_the_others_and_nothing_of_itself(tmp_path: Path) -> None:
    def half_done(rows: Rows) -> None:
        rows.put_note("half", {})
        raise Conflict("changed my mind")

    held = Held(tmp_path / "db")
    one, two, three, four = await held.together(
        note("a"), half_done, lambda rows: rows.put_note(None, {}), lambda rows: rows.notes("")
    )
    assert one is None
    assert isinstance(two, Conflict)
    assert isinstance(three, sqlite3.IntegrityError)
    assert "a" in four
    assert "half" not in four
    await held.writer.close()


async def test_a_full_disk_fails_the_group_whole_and_the_store_goes_on(tmp_path: Path) -> None:
    held = Held(tmp_path / "db")
    pages = held.connection.execute("PRAGMA page_count").fetchone()[0]
    held.connection.execute(f"PRAGMA max_page_count = {pages + 4}")
    answers = await held.together(note("a"), lambda rows: rows.put_note("big", {"x": "y" * 500_000}), note("b"))
    assert all(isinstance(each, StoreUnusable) and "full" in each.message for each in answers)
    assert await held.writer.write(lambda rows: rows.notes("")) == {}
    held.connection.execute("PRAGMA max_page_count = 100000")
    await held.writer.write(note("c"))
    assert "c" in await held.writer.write(lambda rows: rows.notes(""))
    await held.writer.close()


async def test_events_of_a_failed_write_are_told_to_nobody(tmp_path: Path) -> None:
    from safelight.core.events import EventKind
    from safelight.jobs import acts

    def half_done(rows: Rows) -> None:
        rows.add_events("j", "ada", [(EventKind.WARNING, {"message": "never"})])
        raise Conflict("changed my mind")

    held = Held(tmp_path / "db")
    job = new_job(id="j")
    await held.together(lambda rows: acts.submit(rows, job, 0), half_done)
    assert [event.kind for event in held.told] == [EventKind.QUEUED]  # type: ignore[attr-defined]
    await held.writer.close()


async def test_a_listener_that_fails_leaves_nobody_waiting(tmp_path: Path) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("not my day")

    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(str(said["exception"])))
    store = SqliteStore(tmp_path / "db")
    await store.open()
    store.listen(fail)
    answers = await asyncio.wait_for(asyncio.gather(*(store.submit(new_job(str(n))) for n in range(5))), 20)
    assert all(new for _, new in answers)
    assert set(complaints) == {"not my day"}
    await store.close()


async def test_a_cancelled_caller_undoes_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    calls = [asyncio.ensure_future(store.submit(new_job(str(n)))) for n in range(10)]
    await asyncio.sleep(0)
    calls[3].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert (await store.counts())[JobState.QUEUED] == 10
    await store.close()


async def test_close_commits_what_waits(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    calls = [asyncio.ensure_future(store.submit(new_job(str(n)))) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert all(new for _, new in await asyncio.gather(*calls))
    await store.open()
    assert (await store.counts())[JobState.QUEUED] == 50
    await store.close()


@pytest.mark.slow
async def test_at_least_500_durable_submissions_a_second_from_32_clients(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()

    async def client(n: int) -> None:
        for i in range(40):
            await store.submit(new_job(f"{n} {i}", owner=f"o{n}"))

    async def rate() -> float:
        begun = time.perf_counter()
        await asyncio.gather(*(client(n) for n in range(32)))
        return 32 * 40 / (time.perf_counter() - begun)

    best = max([await rate() for _ in range(3)])
    await store.close()
    assert best >= 500

"""The one thread that writes: all writes that wait go into one transaction, so that they share its sync (group commit).

Each write stands in a savepoint of its own: one that fails is undone alone and fails only whoever asked for it. Nobody
is answered before the commit.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from safelight.core.events import Event
from safelight.errors import StoreUnusable
from safelight.jobs.rows import Now, Rows
from safelight.jobs.sqlite.rows import SqliteRows
from safelight.jobs.sqlite.schema import unusable

MAX_GROUP = 256
"""Most writes in one transaction: bounds how long the first waits for the last."""


@dataclass
class Write:
    """An act that waits for its turn, and what became of it."""

    act: Callable[[Rows], Any]
    answer: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None


class Savepoint:
    """`with` it, a write that raises is undone alone; what it raised is kept in the write for whoever asked."""

    def __init__(self, connection: sqlite3.Connection, write: Write) -> None:
        self._connection = connection
        self._write = write

    def __enter__(self) -> None:
        self._connection.execute("SAVEPOINT write")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        whole_is_lost = not self._connection.in_transaction  # SQLite itself rolls back on a full disk or an I/O error
        if not whole_is_lost:
            if error is not None:
                self._connection.execute("ROLLBACK TO write")
            self._connection.execute("RELEASE write")
        self._write.error = error
        return not whole_is_lost


class Writer:
    """Owns the writing connection and its thread. `tell` gets the committed events, in the loop, before anybody who was
    answered goes on."""

    def __init__(self, connection: sqlite3.Connection, path: Path, now: Callable[[], Now],
                 tell: Callable[[Sequence[Event]], None]) -> None:  # fmt: skip
        self._connection = connection
        self._path = path
        self._now = now
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="safelight-store", daemon=True)
        self._thread.start()

    async def write(self, act: Callable[[Rows], Any]) -> Any:
        """What `act` returns, once it is committed."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.put(Write(act, answer))
        return await answer

    async def close(self) -> None:
        """Commit what waits, then end the thread and the connection."""
        self._waiting.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def _work(self) -> None:
        while group := self._next_group():
            events = self._commit(group)
            self._loop.call_soon_threadsafe(self._answer, group, events)
        self._connection.close()

    def _next_group(self) -> list[Write]:
        """All that waits, at least one; empty at the end."""
        group: list[Write] = []
        write = self._waiting.get()
        while write is not None:
            group.append(write)
            if len(group) == MAX_GROUP or self._waiting.empty():
                return group
            write = self._waiting.get()  # cannot wait: nobody else takes
        if group:
            self._waiting.put(None)
        return group

    def _commit(self, group: Sequence[Write]) -> list[Event]:
        """Carry out the group in one transaction; its events. Where that fails, all of it has failed."""
        rows = SqliteRows(self._connection, self._now())
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for write in group:
                said = len(rows.fresh)
                with Savepoint(self._connection, write):
                    write.value = write.act(rows)
                if write.error is not None:
                    del rows.fresh[said:]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            for write in group:
                write.error = unusable(self._path, error)
            return []
        return rows.fresh

    def _answer(self, group: Sequence[Write], events: Sequence[Event]) -> None:
        for write in group:
            if write.answer.done():
                continue  # whoever asked was cancelled; the write stands
            if write.error is not None:
                write.answer.set_exception(self._in_words(write.error))
            else:
                write.answer.set_result(write.value)
        self._tell(events)  # the answered only go on at the loop's next turn; a listener that fails leaves none waiting

    def _in_words(self, error: BaseException) -> BaseException:
        broken = isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError
        )
        return unusable(self._path, error) if broken and isinstance(error, sqlite3.Error) else error


def closed(path: Path) -> StoreUnusable:
    """For a call before open or after close."""
    return StoreUnusable(f"The job database {path} is not open.", "Call open() first; after close() nothing is kept.")

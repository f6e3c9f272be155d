"""The SQLite store: what an accepted job's safety rests on."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

from safelight.errors import StoreUnusable
from safelight.jobs.ledger import Clock, Ledger
from safelight.jobs.rows import Rows
from safelight.jobs.sqlite import sql
from safelight.jobs.sqlite.rows import SqliteRows
from safelight.jobs.sqlite.schema import connect, prepare, unusable
from safelight.jobs.sqlite.writer import Writer, closed

T = TypeVar("T")

READERS = 2
"""Threads, each with its connection, that read while the writer writes (WAL lets them)."""

SEARCHERS = 2
"""As many again for searches, which may look through all there is: what the dispatcher reads does not wait for them."""


class SqliteStore(Ledger):
    """A `Store` in one file. For one event loop of one process; the data folder's lock keeps other servers away.

    `busy_timeout_s`: how long to wait where another program (a backup) holds the database.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0, wall: Clock = time.time,
                 tick: Clock = time.monotonic) -> None:  # fmt: skip
        super().__init__(wall, tick)
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._searchers: ThreadPoolExecutor | None = None
        self._of_thread = threading.local()
        self._connections: list[sqlite3.Connection] = []

    async def open(self) -> None:
        """See Store. Checks, copies and migrates the file where it must."""
        connection = await asyncio.to_thread(prepare, self._path, self._busy_timeout_s)
        self._readers = ThreadPoolExecutor(READERS, "safelight-store-read", self._begin_reader)
        self._searchers = ThreadPoolExecutor(SEARCHERS, "safelight-store-search", self._begin_reader)
        self._writer = Writer(connection, self._path, self.now, self.tell)
        try:
            await self._writer.write(lambda _: connection.execute(sql.VOID_LEASES))
            await self.resume_time()
        except StoreUnusable:
            await self.close()
            raise

    async def close(self) -> None:
        """See Store."""
        writer, self._writer = self._writer, None
        threads = [each for each in (self._readers, self._searchers) if each is not None]
        self._readers = self._searchers = None
        if writer is not None:
            await writer.close()
        for each in threads:
            await asyncio.to_thread(each.shutdown)
        while self._connections:
            self._connections.pop().close()

    async def write(self, act: Callable[[Rows], T]) -> T:
        """See Ledger. A caller that is cancelled meanwhile does not undo the write."""
        if self._writer is None:
            raise closed(self._path)
        return cast(T, await self._writer.write(act))

    async def read(self, look: Callable[[Rows], T]) -> T:
        """See Ledger."""
        return await self._in(self._readers, look)

    async def search(self, look: Callable[[Rows], T]) -> T:
        """See Ledger."""
        return await self._in(self._searchers, look)

    async def _in(self, threads: ThreadPoolExecutor | None, look: Callable[[Rows], T]) -> T:
        if threads is None:
            raise closed(self._path)
        return await asyncio.get_running_loop().run_in_executor(threads, self._look, look)

    def _begin_reader(self) -> None:
        self._of_thread.connection = connect(self._path, self._busy_timeout_s, reading=True)
        self._connections.append(self._of_thread.connection)

    def _look(self, look: Callable[[Rows], T]) -> T:
        """In a reading thread: `look` inside one transaction, hence on one state."""
        connection: sqlite3.Connection = self._of_thread.connection
        try:
            connection.execute("BEGIN")
            try:
                return look(SqliteRows(connection, self.now()))
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise unusable(self._path, error) from error

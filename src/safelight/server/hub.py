"""The event hub: what happens to jobs, to everyone who listens, in order, while the slow ones hold nobody up.

A listener has a bounded queue. An event that does not fit is not lost: the listener reads the store from the last
number it gave on. Previews and text pieces have no number; those that do not fit are gone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from safelight.core.events import LAST, UNSTORED, Event

QUEUE_LENGTH = 256
PAGE = 1000
"""Events read from the store at a time."""


class Replay(Protocol):
    """The part of the store that a hub reads."""

    async def events(self, job_id: str, after: int = 0) -> list[Event]:
        """A job's stored events with a number above `after`."""
        ...

    async def events_of(self, owner: str | None, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events of all the owner's jobs with a sequence above `after`."""
        ...


class Listener:
    """One who listens: a bounded queue, and whether something stored has to be read from the store (`behind`)."""

    def __init__(self, length: int, previews: bool) -> None:
        self.previews = previews
        self.behind = True
        self.ended = False
        self._length = length
        self._queue: deque[Event] = deque()
        self._woken = asyncio.Event()

    def offer(self, event: Event) -> None:
        """Take an event, or note that it is to be read from the store."""
        if event.kind in UNSTORED:
            if not self.previews or len(self._queue) >= self._length:
                return
            self._queue.append(event)
        elif len(self._queue) < self._length and not self.behind:
            self._queue.append(event)
        else:
            self.behind = True
        self._woken.set()

    def wake(self, *, ended: bool = False) -> None:
        """Something is in the store (or, with `ended`, nothing will come any more)."""
        self.behind = True
        self.ended = self.ended or ended
        self._woken.set()

    def caught_up(self) -> None:
        """About to read the store: from here on events queue up again."""
        self.behind = False

    async def next(self, idle_s: float) -> Event | None:
        """The next queued event; None when the store must be read, nothing came for `idle_s`, or it has ended."""
        while not self._queue and not self.behind and not self.ended:
            self._woken.clear()
            try:
                await asyncio.wait_for(self._woken.wait(), idle_s)
            except TimeoutError:
                return None
        return self._queue.popleft() if self._queue and not self.behind else None

    def drop_queue(self) -> None:
        """Forget what is queued: the store has all of it that counts."""
        self._queue.clear()


class Hub:
    """Fans events out to the listeners of a job and of an owner. Used from the event loop's thread only.

    `on_watch(job_id, watched)` is told when somebody begins, and when nobody is left, to want a job's previews.
    """

    def __init__(self, store: Replay, length: int = QUEUE_LENGTH) -> None:
        self.on_watch: Callable[[str, bool], None] = lambda job_id, watched: None
        self._store = store
        self._length = length
        self._closed = False
        self._jobs: dict[str, set[Listener]] = {}
        self._owners: dict[str, set[Listener]] = {}

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return sum(len(each) for table in (self._jobs, self._owners) for each in table.values())

    def watched(self, job_id: str) -> bool:
        """Whether somebody wants the job's previews."""
        return any(listener.previews for listener in self._jobs.get(job_id, ()))

    def stored(self, events: Sequence[Event]) -> None:
        """Give committed events, in commit order, to those who listen: a listener of the store."""
        for event in events:
            for listener in self._jobs.get(event.job_id, ()):
                listener.offer(event)
        for listeners in self._owners.values():
            for listener in listeners:
                listener.wake()

    def unstored(self, event: Event) -> None:
        """Give a preview or a piece of text to those who want it now."""
        for listener in self._jobs.get(event.job_id, ()):
            listener.offer(event)

    def close(self) -> None:
        """End all listening: the server is stopping. What is stored is there for the next connection."""
        self._closed = True
        for table in (self._jobs, self._owners):
            for listeners in table.values():
                for listener in listeners:
                    listener.wake(ended=True)

    async def follow(self, job_id: str, after: int = 0, *, previews: bool = False,
                     idle_s: float = 15.0) -> AsyncGenerator[Event | None, None]:  # fmt: skip
        """A job's events with a number above `after`, as they come; None where nothing came for `idle_s`.

        Ends after the job's last event, or when the server stops.
        """
        with self._listening(self._jobs, job_id, previews) as listener:
            last = after
            while True:
                ended = listener.ended
                if listener.behind:
                    listener.drop_queue()
                    listener.caught_up()
                    for event in await self._store.events(job_id, last):
                        last = event.number
                        yield event
                        if event.kind in LAST:
                            return
                if ended:
                    return
                heard = await listener.next(idle_s)
                if heard is None:
                    if not listener.behind and not listener.ended:
                        yield None
                elif heard.kind in UNSTORED:
                    yield heard
                elif heard.number > last:
                    last = heard.number
                    yield heard
                    if heard.kind in LAST:
                        return

    async def follow_owner(
        self, owner: str, after: int = 0, *, idle_s: float = 15.0
    ) -> AsyncGenerator[Event | None, None]:
        """Stored events of all the owner's jobs with a sequence above `after`, in commit order; None where nothing
        came for `idle_s`. Ends when the server stops.

        Sequences have gaps where others' jobs stand between, so the events are always read from the store.
        """
        with self._listening(self._owners, owner, previews=False) as listener:
            last = after
            while True:
                ended = listener.ended
                if listener.behind:
                    listener.caught_up()
                    page = await self._store.events_of(owner, last, PAGE)
                    for event in page:
                        last = event.sequence
                        yield event
                    if len(page) == PAGE:
                        listener.wake()
                        continue
                if ended:
                    return
                await listener.next(idle_s)
                if not listener.behind and not listener.ended:
                    yield None

    @contextmanager
    def _listening(self, table: dict[str, set[Listener]], key: str, previews: bool) -> Iterator[Listener]:
        listener = Listener(self._length, previews)
        listener.ended = self._closed
        watched = self.watched(key)
        table.setdefault(key, set()).add(listener)
        if table is self._jobs and previews and not watched:
            self.on_watch(key, True)
        try:
            yield listener
        finally:
            table[key].discard(listener)
            if not table[key]:
                del table[key]
            if table is self._jobs and previews and not self.watched(key):
                self.on_watch(key, False)

"""Emptying the outbox: what stands there is sent until it is taken or has failed too often.

What is to be sent stands in the store since the transaction of its event, so whatever dies, it is found again; and it
is noted only after the receiver took it, so it arrives at least once. Pauses are counted on the monotonic clock from
when this server knew of the last try: a wall clock that jumps neither holds messages back nor lets them rain.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import httpx

from safelight.core.events import Event
from safelight.errors import NotFound, SafelightError
from safelight.jobs.records import Delivery, DeliveryState
from safelight.jobs.store import Store
from safelight.server.problems import LookupsBusy
from safelight.server.webhooks.wishes import TOLD
from safelight.settings.table import WebhookSettings

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Messages under way at once."""

AT_ONCE_A_HOST = AT_ONCE // 4
"""So many of them to one host, so that a slow one leaves room."""

PAGE = 200
"""Messages read from the store at once: what waits since yesterday does not keep the server from what happens now."""

LONGEST_PAUSE_S = 3600.0
STORE_PAUSE_S = 5.0
"""How long to wait where the store could not be read or written."""

LOOKUP_PAUSE_S = 1.0
"""How long a message waits whose host could not be looked up because others are being."""


class Sends(Protocol):
    """What carries a message (sender.Sender)."""

    async def send(self, delivery: Delivery) -> tuple[DeliveryState, str]:
        """One try: what came of it, and how it failed. LookupsBusy where it came to none."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...


def pause_s(tries: int, first_s: float) -> float:
    """How long to wait after that many failed tries."""
    return float(min(LONGEST_PAUSE_S, first_s * 2 ** min(tries - 1, 40))) if tries else 0.0


@dataclass(frozen=True)
class Message:
    """A delivery that waits, and the host that its URL names."""

    delivery: Delivery
    host: str


class Outbox:
    """The task that empties the outbox. `begin` it once the store is open, `end` it before the store is closed."""

    def __init__(self, store: Store, sender: Sends, settings: WebhookSettings,
                 tick: Callable[[], float] = time.monotonic) -> None:  # fmt: skip
        self._store = store
        self._sender = sender
        self._settings = settings
        self._tick = tick
        self._seen = 0
        self._news = True
        self._later: list[tuple[float, int, Message]] = []  # a heap by when they are due, then by the events' sequence
        self._due: dict[str, deque[Message]] = {}  # by host, in the order of their turns
        self._under_way: dict[asyncio.Task[None], str] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._deaf: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """Take up what an earlier server left, and what comes."""
        self._deaf = self._store.listen(self._heard)
        self._task = asyncio.create_task(self._run(), name="outbox")

    async def end(self) -> None:
        """Stop. What is under way is sent again by the next server, if need be."""
        self._deaf()
        tasks = [*self._under_way, *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._sender.close()

    def _heard(self, events: Sequence[Event]) -> None:
        if any(each.kind in TOLD for each in events):
            self._news = True
            self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            [failed] = await asyncio.gather(self._look(), return_exceptions=True)
            if failed is not None:
                log.error("The outbox of webhooks cannot be read; again in %g s.", STORE_PAUSE_S, exc_info=failed)
                await asyncio.sleep(STORE_PAUSE_S)
                self._news = True
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._start())

    async def _look(self) -> None:
        """Learn of deliveries that were put down since the last look, a page at a time."""
        if not self._news:
            return
        self._news = False
        page = await self._store.undelivered(self._seen, PAGE)
        for each in page:
            self._seen = max(self._seen, each.event.sequence)
            self._put(Message(each, httpx.URL(each.url).host), pause_s(each.tries, self._settings.first_retry_s))
        if len(page) == PAGE:
            self._news = True
            self._changed.set()

    def _put(self, message: Message, pause: float) -> None:
        """Let a message wait for that many seconds; then it is its host's turn."""
        heapq.heappush(self._later, (self._tick() + pause, message.delivery.event.sequence, message))

    def _start(self) -> float | None:
        """Start what is due and has room, host by host; seconds until the next is due (None: until something
        changes). What is not due yet costs nothing here."""
        now = self._tick()
        while self._later and self._later[0][0] <= now:
            _, _, message = heapq.heappop(self._later)
            self._due.setdefault(message.host, deque()).append(message)
        busy = Counter(self._under_way.values())
        while len(self._under_way) < AT_ONCE:
            host = next((each for each in self._due if busy[each] < AT_ONCE_A_HOST), None)
            if host is None:
                break
            turn = self._due.pop(host)
            message = turn.popleft()
            if turn:
                self._due[host] = turn  # behind the other hosts
            busy[host] += 1
            task = asyncio.create_task(self._try(message), name=f"delivery {message.delivery.id}")
            self._under_way[task] = host
            task.add_done_callback(self._done)
        return self._later[0][0] - now if self._later else None

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._changed.set()

    async def _try(self, message: Message) -> None:
        delivery = message.delivery
        [came] = await asyncio.gather(self._sender.send(delivery), return_exceptions=True)
        if isinstance(came, LookupsBusy):  # no try: the address was not asked
            self._put(message, LOOKUP_PAUSE_S)
            return
        if isinstance(came, BaseException):  # a fault of ours must not lose the message
            log.error("The delivery %s failed inside the server.", delivery.id, exc_info=came)
            came = DeliveryState.PENDING, f"a fault inside the server: {came!r}"[:500]
        state, said = came
        if state is DeliveryState.PENDING and delivery.tries + 1 >= self._settings.max_tries:
            state = DeliveryState.DEAD
        if state is not DeliveryState.DELIVERED:
            log.warning("webhook not delivered", extra={"delivery": delivery.id, "host": message.host, "why": said,
                                                        "state": state.value})  # fmt: skip
        tried = replace(delivery, state=state, said=said, tries=delivery.tries + 1)
        try:
            tried = await self._store.tried(delivery, state, said)
        except NotFound:
            return
        except (SafelightError, OSError):  # the store will say so to all; once it can write, the message goes again
            log.exception("What became of the delivery %s cannot be noted.", delivery.id)
            tried = replace(tried, state=DeliveryState.PENDING)
        if tried.state is DeliveryState.PENDING:
            self._put(replace(message, delivery=tried), pause_s(tried.tries, self._settings.first_retry_s))

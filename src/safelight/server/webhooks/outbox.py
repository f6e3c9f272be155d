"""Emptying the outbox: what stands there is sent until it is taken or has failed too often.

What is to be sent stands in the store since the transaction of its event, so whatever dies, it is found again; and it
is noted only after the receiver took it, so it arrives at least once. Pauses are counted on the monotonic clock from
when this server knew of the last try: a wall clock that jumps neither holds messages back nor lets them rain.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import httpx

from safelight.core.events import Event
from safelight.errors import NotFound, SafelightError
from safelight.jobs.records import Delivery, DeliveryState
from safelight.jobs.store import Store
from safelight.server.webhooks.wishes import TOLD
from safelight.settings.table import WebhookSettings

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Messages under way at once; and to one host a quarter of that, so that a slow one leaves room."""

LONGEST_PAUSE_S = 3600.0
STORE_PAUSE_S = 5.0
"""How long to wait where the store could not be read or written."""


class Sends(Protocol):
    """What carries a message (sender.Sender)."""

    async def send(self, delivery: Delivery) -> tuple[DeliveryState, str]:
        """One try: what came of it, and how it failed."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...


def pause_s(tries: int, first_s: float) -> float:
    """How long to wait after that many failed tries."""
    return float(min(LONGEST_PAUSE_S, first_s * 2 ** min(tries - 1, 40))) if tries else 0.0


class Outbox:
    """The task that empties the outbox. `begin` it once the store is open, `end` it before the store is closed."""

    def __init__(self, store: Store, sender: Sends, settings: WebhookSettings,
                 tick: Callable[[], float] = time.monotonic) -> None:  # fmt: skip
        self._store = store
        self._sender = sender
        self._settings = settings
        self._tick = tick
        self._seen = 0
        self._waiting: dict[int, tuple[Delivery, float]] = {}
        self._under_way: dict[asyncio.Task[None], str] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._deaf: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """Take up what an earlier server left, and what comes."""
        self._deaf = self._store.listen(self._heard)
        self._changed.set()
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
            self._changed.set()

    async def _run(self) -> None:
        while True:
            [failed] = await asyncio.gather(self._look(), return_exceptions=True)
            if failed is not None:
                log.error("The outbox of webhooks cannot be read; again in %g s.", STORE_PAUSE_S, exc_info=failed)
                await asyncio.sleep(STORE_PAUSE_S)
                self._changed.set()
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._start())

    async def _look(self) -> None:
        """Learn of deliveries that were put down since the last look."""
        if not self._changed.is_set():
            return
        self._changed.clear()
        now = self._tick()
        for each in await self._store.undelivered(self._seen):
            self._seen = max(self._seen, each.event.sequence)
            self._waiting[each.event.sequence] = each, now + pause_s(each.tries, self._settings.first_retry_s)

    def _start(self) -> float | None:
        """Start what is due and has room; seconds until the next is due (None: until something changes)."""
        now = self._tick()
        busy = Counter(self._under_way.values())
        for sequence, (delivery, due) in list(self._waiting.items()):
            host = _host(delivery)
            if due > now or len(self._under_way) >= AT_ONCE or busy[host] >= AT_ONCE // 4:
                continue
            busy[host] += 1
            del self._waiting[sequence]
            task = asyncio.create_task(self._try(delivery), name=f"delivery {delivery.id}")
            self._under_way[task] = host
            task.add_done_callback(self._done)
        later = [due - now for _, due in self._waiting.values() if due > now]
        return min(later) if later else None

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._changed.set()

    async def _try(self, delivery: Delivery) -> None:
        [came] = await asyncio.gather(self._sender.send(delivery), return_exceptions=True)
        if isinstance(came, BaseException):  # a fault of ours must not lose the message
            log.error("The delivery %s failed inside the server.", delivery.id, exc_info=came)
            came = DeliveryState.PENDING, f"a fault inside the server: {came!r}"[:500]
        state, said = came
        if state is DeliveryState.PENDING and delivery.tries + 1 >= self._settings.max_tries:
            state = DeliveryState.DEAD
        if state is not DeliveryState.DELIVERED:
            log.warning("webhook not delivered", extra={"delivery": delivery.id, "host": _host(delivery), "why": said,
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
            pause = pause_s(tried.tries, self._settings.first_retry_s)
            self._waiting[tried.event.sequence] = tried, self._tick() + pause


def _host(delivery: Delivery) -> str:
    return httpx.URL(delivery.url).host

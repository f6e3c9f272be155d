"""The server's view of one worker process, whatever launched it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from typing import Protocol

from safelight.workers.channel import Channel, ChannelClosed
from safelight.workers.deaths import Death
from safelight.workers.frames import BadFrame
from safelight.workers.messages import (
    Assign,
    Broken,
    Declined,
    Ended,
    Heartbeat,
    Ready,
    Shutdown,
    Succeeded,
    ToServer,
    ToWorker,
)
from safelight.workers.spec import WorkerSpec

LEAVE_S = 3.0
"""Seconds that a worker has to end after its connection did."""


class WorkerState(StrEnum):
    """starting: connected, not ready. ready: takes jobs. stopping: asked to end. gone: its process has ended."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    GONE = "gone"


class WorkerHandle:
    """One worker. `attempts`: the (job, attempt) pairs assigned and not yet ended, as the server sees it.

    ready: what it said of itself, once it has. beat: its last heartbeat (holds, bytes, what it has open), and
    `heard_at`: monotonic seconds of its last message. death: how it ended, once it has.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        pid: int,
        channel: Channel[ToServer],
        exit_code: asyncio.Future[int | None],
        kill: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.pid = pid
        self.state = WorkerState.STARTING
        self.attempts: set[tuple[str, int]] = set()
        self.ready: Ready | None = None
        self.beat: Heartbeat | None = None
        self.started_at = self.heard_at = time.monotonic()
        self.death: Death | None = None
        self._channel = channel
        self._exit_code = exit_code
        self._kill = kill
        self._hung = ""
        self._stopping = False
        self._broken: Broken | None = None

    @property
    def id(self) -> str:
        """The spec's id."""
        return self.spec.id

    @property
    def holds(self) -> frozenset[str]:
        """Keys of the weights in its memory."""
        return frozenset(self.beat.holds if self.beat else ())

    @property
    def bytes_free(self) -> int:
        """For weights and work, as last said."""
        return self.beat.bytes_free if self.beat else self.ready.bytes_free if self.ready else 0

    @property
    def bytes(self) -> int:
        """For weights and work altogether, as last said."""
        return self.bytes_free + (self.beat.bytes_held if self.beat else 0)

    def send(self, message: ToWorker) -> None:
        """Say something to it, in order, without waiting; an Assign is open from here on.

        ChannelClosed where it is gone: an Assign is then not open, its attempt is the caller's to release.
        """
        self._channel.send(message)
        if isinstance(message, Assign):
            self.attempts.add((message.job, message.attempt))

    async def messages(self) -> AsyncIterator[ToServer]:
        """What it says, until it is gone. One that speaks nonsense is ended, and its death says so."""
        try:
            while (message := await self._channel.receive()) is not None:
                self._note(message)
                yield message
        except BadFrame as error:
            self._broken = Broken(message=f"it sent what cannot be read: {error}", trace="")
            self.kill()

    def kill(self, hung: str = "") -> None:
        """End it at once. `hung`: why the server takes it for hung."""
        self._hung = self._hung or hung
        self._kill()

    async def stop(self, grace_s: float) -> Death:
        """Ask it to checkpoint, give back and end; after `grace_s` and a little it is ended."""
        self._stopping = True
        if self.state is not WorkerState.GONE:
            self.state = WorkerState.STOPPING
        try:
            self.send(Shutdown(grace_s=grace_s))
        except ChannelClosed:
            self.kill()
        return await self.gone(grace_s + LEAVE_S)

    async def gone(self, within_s: float = LEAVE_S) -> Death:
        """Wait for its process to end, after `within_s` by force; how it ended (`oom` is the pool's to tell)."""
        done, _ = await asyncio.wait({self._exit_code}, timeout=within_s)
        if not done:
            self.kill()
        code = await asyncio.shield(self._exit_code)
        self.state = WorkerState.GONE
        self._channel.abort()
        error, trace = (self._broken.message, self._broken.trace) if self._broken else ("", "")
        if self.death is None:
            self.death = Death(code, hung=self._hung, stopping=self._stopping, error=error, trace=trace)
        return self.death

    def stuck(self, now: float, hang_s: float, factor: float) -> str:
        """Why it counts as hung at monotonic `now`, or nothing.

        Hung: an attempt is open and for max(hang_s, factor x what the work takes as learnt) nothing progressed; or
        it was silent for that long.
        """
        limit = max(hang_s, factor * self.beat.pass_s) if self.beat else hang_s
        silent = now - self.heard_at
        if silent > limit:
            return f"nothing was heard of it for {silent:.1f} s, more than {limit:.1f} s"
        if self.beat and self.attempts and self.beat.last_pass_s + silent > limit:
            return f"no piece of work ended within {self.beat.last_pass_s + silent:.1f} s, more than {limit:.1f} s"
        return ""

    def _note(self, message: ToServer) -> None:
        self.heard_at = time.monotonic()
        match message:
            case Ready():
                self.ready = message
                if self.state is WorkerState.STARTING:
                    self.state = WorkerState.READY
            case Heartbeat():
                self.beat = message
            case Succeeded() | Ended() | Declined():
                self.attempts.discard((message.job, message.attempt))
            case Broken():
                self._broken = message


class Launcher(Protocol):
    """Starts worker processes. One conformance suite holds all launchers."""

    async def start(self, spec: WorkerSpec) -> WorkerHandle:
        """Start a worker and wait for its connection; WorkerUnavailable in words where it does not come."""
        ...

    async def close(self) -> None:
        """End whatever is still running and let go of sockets and files."""
        ...

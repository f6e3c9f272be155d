"""The pool keeps one worker alive for each spec: starts it, hears it, notices that it hangs or died, starts another.

It decides nothing about jobs: what a worker says goes to `on_message` in order, what its death means for the attempts
it had open goes to `on_exit` after its last message. Both are awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from safelight.errors import SafelightError, WorkerUnavailable
from safelight.workers.deaths import Death, Released, oom_kills, released
from safelight.workers.frames import BadFrame
from safelight.workers.handle import Launcher, WorkerHandle, WorkerState
from safelight.workers.messages import ToServer
from safelight.workers.spec import WorkerSpec

log = logging.getLogger(__name__)

AROUND = (OSError, SafelightError, BadFrame)
"""What may go wrong around a worker: no process or socket to be had, an order that cannot be sent, a store that is
locked or full when it ends."""

OnMessage = Callable[[WorkerHandle, ToServer], Awaitable[None]]
OnExit = Callable[[WorkerHandle, list[Released]], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """When the pool loses patience; all in seconds.

    ready_s: for a start. hang_s, hang_factor: no piece of work for max(hang_s, hang_factor x learnt) is a hang.
    tick_s: between looks. backoff_s: before a start that follows a failed one, doubled up to backoff_max_s.
    """

    ready_s: float = 120.0
    hang_s: float = 300.0
    hang_factor: float = 10.0
    tick_s: float = 1.0
    backoff_s: float = 0.5
    backoff_max_s: float = 30.0


@dataclass(frozen=True)
class Trouble:
    """A worker that keeps failing for no job's sake: how often in a row, the last reason, when it is tried again.

    `next_at`: monotonic seconds.
    """

    worker: str
    failures: int
    reason: str
    next_at: float


class Pool:
    """Workers by spec id. `open` it, `close` it; between, `workers` and `troubles` say how it stands."""

    def __init__(
        self,
        launcher: Launcher,
        specs: Sequence[WorkerSpec],
        on_message: OnMessage,
        on_exit: OnExit,
        limits: Limits | None = None,
    ) -> None:
        self.troubles: dict[str, Trouble] = {}
        self._launcher = launcher
        self._specs = tuple(specs)
        self._on_message = on_message
        self._on_exit = on_exit
        self._limits = limits or Limits()
        self._workers: dict[str, WorkerHandle] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = asyncio.Event()
        self._oom: deque[int | None] = deque([oom_kills()] * 2, maxlen=2)

    @property
    def workers(self) -> dict[str, WorkerHandle]:
        """Those whose process runs now, ready or not, by spec id."""
        return dict(self._workers)

    @property
    def kept(self) -> bool:
        """Whether every spec is looked after, and hung workers are: false where a task of the pool has ended."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    @property
    def ready(self) -> list[WorkerHandle]:
        """Those that take jobs now."""
        return [worker for worker in self._workers.values() if worker.state is WorkerState.READY]

    async def open(self) -> None:
        """Begin to keep workers; returns at once, each says Ready when it is."""
        self._tasks = [asyncio.create_task(self._keep(spec), name=f"worker {spec.id}") for spec in self._specs]
        self._tasks.append(asyncio.create_task(self._watch(), name="workers' watch"))

    async def close(self, grace_s: float = 10.0) -> None:
        """Stop all workers and hear their last words; what they leave open is released SERVER_STOPPED.

        The launcher is closed by whoever made it.
        """
        self._closing.set()
        await asyncio.gather(*(worker.stop(grace_s) for worker in self._workers.values()))
        for task in self._tasks:
            await asyncio.wait({task})
            if error := task.exception():
                log.error("the %s had ended", task.get_name(), exc_info=error)

    async def _keep(self, spec: WorkerSpec) -> None:
        """One spec's workers, one after another. Only deaths that no job explains make it wait before the next.

        What goes wrong around a worker is such a failure too: the next start is tried all the same.
        """
        failures = 0
        while not self._closing.is_set():
            try:
                worker = await self._start(spec)
                if worker is None:
                    return
                death = await self._live(worker)
                reason = f"The worker {spec.id} {death.words()}."
                blame = worker.ready is None or (not worker.attempts and not death.stopping and _own_fault(death))
                log.warning("%s", reason)
            except AROUND as error:
                if (left := self._workers.pop(spec.id, None)) is not None:
                    left.kill()
                reason, blame = _words(spec, error), True
            if self._closing.is_set():
                return
            failures = failures + 1 if blame else 0
            if failures:
                await self._back_off(spec, failures, reason)
            else:
                self.troubles.pop(spec.id, None)

    async def _start(self, spec: WorkerSpec) -> WorkerHandle | None:
        """A new worker; None where the pool was closed meanwhile (a start that is given up ends what it had begun)."""
        starting = asyncio.ensure_future(self._launcher.start(spec))
        closing = asyncio.ensure_future(self._closing.wait())
        await asyncio.wait({starting, closing}, return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError, *AROUND):
                await starting
            return None
        worker = starting.result()
        self._workers[spec.id] = worker
        if self._closing.is_set():
            await worker.stop(0.0)
        return worker

    async def _live(self, worker: WorkerHandle) -> Death:
        """Hear a worker until it is gone, then say what became of its attempts."""
        heard: asyncio.Queue[ToServer | None] = asyncio.Queue()
        telling = asyncio.create_task(self._tell(worker, heard))
        telling.add_done_callback(lambda task: worker.kill() if task.exception() else None)
        async for message in worker.messages():
            heard.put_nowait(message)
        heard.put_nowait(None)
        death = worker.death or await worker.gone()
        if death.code == -9 and not death.hung and self._oom_struck():
            death = worker.death = replace(death, oom=True)
        await asyncio.wait({telling})
        if error := telling.exception():
            log.error("a message of the worker %s could not be dealt with; it was ended", worker.id, exc_info=error)
        del self._workers[worker.id]
        await self._on_exit(worker, released(worker.id, death, sorted(worker.attempts)))
        return death

    async def _tell(self, worker: WorkerHandle, heard: asyncio.Queue[ToServer | None]) -> None:
        """Messages to the server in order, apart from the hearing: a slow store must not look like a hung worker."""
        while (message := await heard.get()) is not None:
            await self._on_message(worker, message)

    async def _watch(self) -> None:
        """Every tick: end workers that hang or do not get ready, and note the kernel's count of killings."""
        limits = self._limits
        hang = limits.hang_s, limits.hang_factor
        while not await self._closed_within(limits.tick_s):
            now = time.monotonic()
            self._oom.append(oom_kills())
            for worker in self._workers.values():
                if worker.state is WorkerState.STARTING and now - worker.started_at > limits.ready_s:
                    worker.kill(f"it was not ready within {limits.ready_s:g} s")
                elif worker.state is WorkerState.READY and (why := worker.stuck(now, *hang)):
                    worker.kill(why)

    def _oom_struck(self) -> bool:
        """Whether the kernel killed for memory since the look before the last (the last may have come after it)."""
        now, before = oom_kills(), self._oom[0]
        return now is not None and before is not None and now > before

    async def _back_off(self, spec: WorkerSpec, failures: int, reason: str) -> None:
        pause = min(self._limits.backoff_max_s, self._limits.backoff_s * 2 ** min(failures - 1, 16))
        self.troubles[spec.id] = Trouble(spec.id, failures, reason, time.monotonic() + pause)
        log.error("start %d of the worker %s failed, the next is in %g s: %s", failures, spec.id, pause, reason)
        await self._closed_within(pause)

    async def _closed_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)
        return self._closing.is_set()


def _words(spec: WorkerSpec, error: Exception) -> str:
    if isinstance(error, WorkerUnavailable):
        return str(error)
    return f"The worker {spec.id} could not be kept: {error or type(error).__name__}"


def _own_fault(death: Death) -> bool:
    """Whether an idle worker ended by itself: not by a plain kill from outside."""
    return bool(death.hung) or death.crashed or (death.code is not None and death.code > 0)

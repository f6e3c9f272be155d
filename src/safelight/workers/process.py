"""A worker's main: it turns messages into calls of the engine's loop, and what the loop reports into messages.

Threads: this one does the work, a turn at a time; one reads messages; one beats the heart, also while a turn runs.
The loop is made by what the spec names, as `(device, tables, spec, reporter)`, and kept to the protocol `Loop`.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import logging
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from queue import Empty
from typing import Any, Protocol

import torch
from pydantic import ValidationError

from safelight import __version__
from safelight.core.names import attribute
from safelight.core.operations.contract import Contract
from safelight.core.plans import Plan
from safelight.core.stages import Recipe
from safelight.core.states import AttemptEnd
from safelight.core.tables import Tables, build_tables
from safelight.engine import loop as engine
from safelight.engine.device import Device, choose_device
from safelight.engine.loop import LoopOptions, Pulse
from safelight.engine.openjob import Order
from safelight.engine.plans import own_plan
from safelight.engine.residency import memory
from safelight.errors import SafelightError
from safelight.workers import messages as m
from safelight.workers.channel import BlockingChannel, ChannelClosed, Closed
from safelight.workers.child import end_with_parent
from safelight.workers.deaths import EXIT_BROKEN, EXIT_LOST
from safelight.workers.local import connect
from safelight.workers.spec import WorkerSpec
from safelight.workers.stdio import Stdio

log = logging.getLogger(__name__)

ORPHAN_S = 0.8
"""Seconds between the end of the connection and the end of the process, whatever it is doing."""


class Loop(Protocol):
    """What does the work (engine.loop.Loop). Called from one thread, but for `pulse`."""

    def open(self, order: Order) -> None:
        """Take up an attempt; what is wrong with it is reported, never raised."""

    def cancel(self, job: str, attempt: int) -> None:
        """Drop it; unknown ones are ignored."""

    def pause(self, job: str, attempt: int, end: str) -> None:
        """Keep a checkpoint and let it go as `end`; unknown ones are ignored."""

    def watch(self, job: str, attempt: int, previews: bool) -> None:
        """Make previews of it, or do not; unknown ones are ignored."""

    def turn(self) -> bool:
        """Do one piece of work. False: there is nothing to do until the next message."""
        ...

    def stop(self) -> None:
        """Checkpoint what is open, report its end, join all threads."""

    def pulse(self) -> Pulse:
        """How it is, from any thread and without waiting, also while a turn runs."""
        ...


def engine_loop(where: Device, tables: Tables, spec: WorkerSpec, reporter: Reporter) -> Loop:
    """The engine's loop for `spec`, in a process that keeps to the hard cap from here on."""
    options = LoopOptions(
        artifacts=Path(spec.artifacts), max_batch=spec.max_batch, memory_gib=spec.memory_gib,
        checkpoint_interval_s=spec.checkpoint_interval_s, preview_steps=spec.preview_steps,
        converted=Path(spec.converted) if spec.converted else None, converted_gib=spec.converted_gib,
    )  # fmt: skip
    loop = engine.Loop(where, tables, options, reporter)
    for family in tables.families:
        attribute(family.code)  # what code takes is no job's
    memory.cap(where.device, spec.memory_hard_gib, spec.memory_gib)
    return loop


class Reporter:
    """What the loop tells, as messages to the server. Any thread may call it.

    With the server gone it says nothing: the main thread learns that from its queue and ends the process.
    """

    def __init__(self, channel: BlockingChannel[m.ToWorker]) -> None:
        self._channel = channel
        self.spoke_at = time.monotonic()

    def event(self, job: str, attempt: int, kind: str, data: Mapping[str, Any]) -> None:
        """Something happened; `kind`: an EventKind."""
        self._say(m.Happened(job=job, attempt=attempt, kind=kind, data=dict(data)))

    def planned(self, job: str, attempt: int, plan: Plan) -> None:
        """A deterministic job begins with this plan."""
        self._say(m.Planned(job=job, attempt=attempt, plan=dict(plan)))

    def saved(self, job: str, attempt: int, facts: Mapping[str, Any]) -> None:
        """An artifact lies finished under its content's name."""
        self._say(m.Saved(job=job, attempt=attempt, **facts))

    def checkpointed(self, job: str, attempt: int, folder: str, step: int) -> None:
        """The attempt can go on from `folder`."""
        self._say(m.Checkpointed(job=job, attempt=attempt, folder=folder, step=step))

    def succeeded(self, job: str, attempt: int, result: Mapping[str, Any], timings: Mapping[str, float],
                  peak_bytes: int) -> None:  # fmt: skip
        """The recipe ended."""
        self._say(m.Succeeded(
            job=job, attempt=attempt, result=dict(result), timings=dict(timings), peak_bytes=peak_bytes
        ))  # fmt: skip

    def ended(self, job: str, attempt: int, end: str, error: Mapping[str, str]) -> None:
        """The attempt ended without a result; `end`: an AttemptEnd; `error`: kind, message, hint, trace."""
        self._say(m.Ended(job=job, attempt=attempt, end=end, **error))

    def declined(self, job: str, attempt: int, reason: str) -> None:
        """The job cannot be taken now."""
        self._say(m.Declined(job=job, attempt=attempt, reason=reason))

    def profile(self, network: str, shape: str, dtype: str, width: int, seconds: float) -> None:
        """A pass was measured."""
        self._say(m.Profile(network=network, shape=shape, dtype=dtype, width=width, seconds=seconds))

    def _say(self, message: m.Message) -> None:
        self.spoke_at = time.monotonic()
        _send(self._channel, message)


def _send(channel: BlockingChannel[m.ToWorker], message: m.Message) -> None:
    try:
        channel.send(message)
    except ChannelClosed as error:
        log.debug("not said, nobody listens: %s", error)


class Worker:
    """One worker's life on one connection."""

    def __init__(self, spec: WorkerSpec, channel: BlockingChannel[m.ToWorker]) -> None:
        self._spec = spec
        self._channel = channel
        self._reporter = Reporter(channel)
        tables = build_tables(spec.extensions)
        self._contract = Contract(tables.operations)
        self._over = threading.Event()
        self._leave: float | None = None
        self._lost = False
        self._where = choose_device(spec.device, spec.dtype, spec.channels_last)
        self._loop: Loop = attribute(spec.loop)(self._where, tables, spec, self._reporter)

    def run(self) -> int:
        """Until asked to end, or the server is gone; the process's exit code."""
        self._channel.send(self._ready())
        beats = threading.Thread(target=self._beat, name="safelight-heartbeat", daemon=True)
        beats.start()
        try:
            while self._leave is None:
                self._listen(wait=False)
                if self._leave is None and not self._loop.turn():
                    self._listen(wait=True)
        finally:
            self._over.set()
        if self._lost:
            return EXIT_LOST
        _exit_after(self._leave, 0)
        self._loop.stop()
        return 0

    def _listen(self, wait: bool) -> None:
        """Do what has been said; `wait`: for up to a heartbeat."""
        try:
            while self._leave is None:
                self._hear(self._channel.incoming.get(wait, self._spec.heartbeat_s if wait else None))
                wait = False
        except Empty:
            return

    def _hear(self, message: m.ToWorker | Closed) -> None:
        match message:
            case m.Assign():
                self._open(message)
            case m.Cancel():
                self._loop.cancel(message.job, message.attempt)
            case m.Pause():
                self._loop.pause(message.job, message.attempt, message.end)
            case m.Watch():
                self._loop.watch(message.job, message.attempt, message.previews)
            case m.Shutdown():
                self._leave = message.grace_s
            case Closed():
                self._lost, self._leave = True, 0.0
                log.warning("the worker %s ends: %s", self._spec.id, message.reason)

    def _open(self, assign: m.Assign) -> None:
        """Make the recipe's generator and give it to the loop; a request that cannot be read fails its job alone."""
        if assign.alone and (others := len(self._loop.pulse().open)):
            self._reporter.declined(assign.job, assign.attempt, f"It is to run alone, and {others} others are open.")
            return
        try:
            resolved = self._contract.load(assign.resolved)
            recipe: Recipe = attribute(assign.recipe)(resolved)
        except (SafelightError, ValidationError, ImportError, AttributeError) as error:
            message = f"The stored request or its recipe {assign.recipe!r} cannot be read: {error}"
            facts = {"kind": getattr(error, "kind", "unreadable_request"), "message": message}
            self._reporter.ended(assign.job, assign.attempt, AttemptEnd.REFUSED, facts)
            return
        request = json.dumps(assign.resolved, sort_keys=True).encode()
        order = Order(
            job=assign.job, attempt=assign.attempt, recipe=recipe, request=hashlib.sha256(request).hexdigest(),
            folder=Path(assign.folder), deterministic=bool(getattr(resolved, "deterministic", False)),
            checkpoint=Path(assign.checkpoint) if assign.checkpoint else None, previews=assign.previews,
            plan=assign.plan,
        )  # fmt: skip
        self._loop.open(order)

    def _ready(self) -> m.Ready:
        packages = ("torch", "diffusers", "transformers")
        versions = {name: metadata.version(name) for name in packages}
        versions |= {"safelight": __version__, "python": platform.python_version()}
        return m.Ready(
            pid=os.getpid(), device=str(self._where.device), device_name=self._where.label,
            dtype=self._where.dtype_name, threads=torch.get_num_threads(),
            bytes_free=self._loop.pulse().bytes_free, versions=versions, plan=own_plan(self._where),
        )  # fmt: skip

    def _beat(self) -> None:
        """A heartbeat at once and every `heartbeat_s`, also while a turn runs."""
        while True:
            pulse = self._loop.pulse()
            quiet_s = min(pulse.idle_s, time.monotonic() - self._reporter.spoke_at) if pulse.open else 0.0
            beat = m.Heartbeat(
                open=pulse.open, holds=pulse.holds, bytes_free=pulse.bytes_free, bytes_held=pulse.bytes_held,
                rss=memory.rss(), last_pass_s=quiet_s, pass_s=pulse.expected_s,
            )  # fmt: skip
            _send(self._channel, beat)
            if self._over.wait(self._spec.heartbeat_s):
                return


class _Connection(BlockingChannel[m.ToWorker]):
    """The worker's end, which ends the process where it is lost, even from under a turn that never ends."""

    def _read(self) -> None:
        super()._read()
        _exit_after(ORPHAN_S, EXIT_LOST)


def _exit_after(seconds: float, code: int) -> None:
    """End the process then, whatever it is doing, unless it has ended by itself."""
    timer = threading.Timer(seconds, lambda: os._exit(code))
    timer.daemon = True
    timer.start()


def main(spec: WorkerSpec, address: str, token: str) -> int:
    """Be the worker `spec`, for the server at `address`; the process's exit code. Whoever calls ends the process."""
    faulthandler.enable()
    memory.one_heap()
    torch.set_num_threads(spec.threads)
    channel = _Connection(connect(address), m.ToWorker)
    channel.send(m.Hello(token=token))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: channel.incoming.put(m.Shutdown(grace_s=spec.grace_s)))
    channel.listen()
    try:
        return Worker(spec, channel).run()
    except Exception as error:  # the edge of the process: the server is told, then it ends
        log.exception("the worker %s broke", spec.id)
        text = f"{type(error).__name__}: {error}"
        _send(channel, m.Broken(message=text[:2000], trace=traceback.format_exc()[-20_000:]))
        return EXIT_BROKEN


def start_anew(parent: int) -> int:
    """The main of a worker that was spawned and not forked: its orders come on stdin."""
    if not end_with_parent(parent):
        return 0
    stdio: Stdio[m.Start] = Stdio(m.Start)
    order = next(iter(stdio))
    return main(order.spec, order.address, order.token)


if __name__ == "__main__":
    sys.exit(start_anew(int(sys.argv[1])))

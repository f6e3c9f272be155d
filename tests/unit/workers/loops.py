"""Loops for tests of worker processes: a job's prompt says what becomes of it. Run in real workers."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel

from safelight.core.operations.contract import OperationSpec
from safelight.core.states import AttemptEnd
from safelight.engine.loop import Pulse


class Do(BaseModel):
    """Do what the prompt says."""

    operation: Literal["test.do"] = "test.do"
    prompt: str


def register(tables) -> None:
    """This module as an extension: the operation `test.do`."""
    tables.operations.register(OperationSpec("test.do", Do, Do, f"{__name__}:resolve", f"{__name__}:recipe"))


def recipe(resolved) -> Iterator[str]:
    """The request's prompt as the only stage."""
    yield resolved.prompt


def broken_recipe(resolved):
    raise AttributeError("no such family")


class ObedientLoop:
    """`draw`: succeeds. `busy S`: one turn of S seconds, then succeeds. `wait`: stays open and idle. `segv`, `abort`,
    `kill`, `raise`, `exit`: that, as soon as the job is open."""

    def __init__(self, where, tables, spec, reporter):
        self.spec, self.reporter = spec, reporter
        self.jobs: dict[tuple[str, int], str] = {}
        self.worked_at = time.monotonic()
        self.expected_s = 0.0

    def open(self, order):
        self.jobs[order.job, order.attempt] = next(order.recipe)
        self.reporter.event(order.job, order.attempt, "started", {"previews": order.previews, "pid": os.getpid()})

    def cancel(self, job, attempt):
        if self.jobs.pop((job, attempt), None):
            self.reporter.ended(job, attempt, AttemptEnd.CANCELLED, {})

    def pause(self, job, attempt, end):
        if self.jobs.pop((job, attempt), None):
            self.reporter.checkpointed(job, attempt, "somewhere", 3)
            self.reporter.ended(job, attempt, end, {})

    def watch(self, job, attempt, previews):
        self.reporter.event(job, attempt, "warning", {"message": f"previews {previews}"})

    def turn(self):
        due = next(((key, prompt) for key, prompt in self.jobs.items() if prompt != "wait"), None)
        if due is None:
            self.worked_at = time.monotonic()
            return False
        key, prompt = due
        self.do(prompt)
        del self.jobs[key]
        facts = {"index": 0, "sha256": "0" * 64, "media_type": "image/png", "bytes": 1, "width": 2, "height": 3}
        self.reporter.saved(*key, {**facts, "seed": 4})
        self.reporter.profile("net", "4x8x8", "fp32", 1, 0.5)
        self.reporter.succeeded(*key, {"pid": os.getpid()}, {"denoise": 0.5}, 9)
        self.worked_at = time.monotonic()
        return True

    def do(self, prompt):
        match prompt.split():
            case ["busy", seconds]:
                self.expected_s = float(self.spec.debug.get("expected_s", 0))
                time.sleep(float(seconds))
                self.expected_s = 0.0
            case ["segv"]:
                ctypes.string_at(0)
            case ["abort"]:
                os.abort()
            case ["kill"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["raise"]:
                raise RuntimeError("the loop itself broke")
            case ["exit"]:
                os._exit(3)

    def stop(self):
        for job, attempt in list(self.jobs):
            self.pause(job, attempt, AttemptEnd.SERVER_STOPPED)

    def pulse(self):
        idle_s = time.monotonic() - self.worked_at if self.jobs else 0.0
        return Pulse(list(self.jobs), ["weights"], 1000, 10, idle_s, self.expected_s)


class StopsNever(ObedientLoop):
    """Its `stop` does not come back."""

    def stop(self):
        time.sleep(60)


class Silent(ObedientLoop):
    """A signal stops the whole process as soon as a job is open: no heartbeat any more."""

    def turn(self):
        if self.jobs:
            os.kill(os.getpid(), signal.SIGSTOP)
        return False


def cannot(where, tables, spec, reporter):
    raise RuntimeError("there is no such device")

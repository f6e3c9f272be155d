"""What the sampler `harm` does, in the worker."""

from __future__ import annotations

import ctypes
import os
import signal
import time

from safelight.engine.sampling.step import Moved, Query, Step, Steps


def harm(step: Step) -> Steps:
    """A step of Euler's, and at step `at` the harm.

    segv, abort, kill: the process ends by that signal. hang: it sleeps. raise: it raises. estranged: it raises at every
    step of a walk that another process began, as a checkpoint does that nobody can go on from.
    """
    number = int(step.memory.get("number", 0)) + 1
    process = int(step.memory.get("process", os.getpid()))
    how = step.options["how"]
    if how == "estranged" and process != os.getpid():
        raise RuntimeError(f"process {os.getpid()} cannot go on with what process {process} began")
    if number == step.options["at"]:
        match how:
            case "segv":
                ctypes.string_at(0)
            case "abort":
                os.abort()
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(3600)
            case "raise":
                raise RuntimeError(f"step {number} cannot be done")
    slope = (step.x - (yield Query(step.x, step.sigma)).guided) / step.sigma
    return Moved(step.x + slope * step.width, {"number": number, "process": process})

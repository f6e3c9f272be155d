"""What an error means for the attempt it came up in: a verdict as data, for the loop to act on."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from safelight.core.states import AttemptEnd
from safelight.engine.residency import memory
from safelight.errors import UNWRITABLE, NoRoomNow, OutOfMemory, SafelightError


@dataclass(frozen=True)
class Wait:
    """The job is given back and costs nothing: it can go on when others have left or the disk takes files again."""

    reason: str


@dataclass(frozen=True)
class Failure:
    """The attempt ends as `end`, with this error in words; `trace` where it is a fault and not a refusal."""

    end: AttemptEnd
    kind: str
    message: str
    hint: str = ""
    trace: str = ""

    @property
    def told(self) -> dict[str, str]:
        """The error as an attempt's record keeps it."""
        return {"kind": self.kind, "message": self.message, "hint": self.hint, "trace": self.trace}


def judge(error: Exception, alone: bool) -> Failure | Wait:
    """What becomes of the attempt that raised `error`. `alone`: no other job is open that could make room."""
    if isinstance(error, NoRoomNow) and not alone:
        return Wait(error.message)
    if isinstance(error, SafelightError):
        return Failure(AttemptEnd.REFUSED, error.kind, error.message, error.hint)
    if isinstance(error, OSError) and error.errno in UNWRITABLE:  # no fault of the job
        return Wait(f"Nothing can be written: {error}.")
    if memory.ran_out(error):
        hint = "Ask for a smaller picture or batch, or raise devices.memory_hard_gib."
        return Failure(AttemptEnd.REFUSED, OutOfMemory.kind, f"The device ran out of memory: {error}", hint)
    return Failure(AttemptEnd.ERROR, type(error).__name__, str(error), trace="".join(traceback.format_exception(error)))

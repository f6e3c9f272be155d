"""What a worker's death means for the attempts it had open. A pure table; and the kernel's count of its killings.

    how it ended                                      one open attempt    several
    hung, ended by the server                         SUSPECT             SUSPECT
    SIGSEGV, SIGBUS, SIGABRT, the OOM killer          CRASHED (charged)   SUSPECT
    an error of the worker's own, exit code above 0   ERROR (charged)     SUSPECT
    asked to stop by the server                       SERVER_STOPPED      SERVER_STOPPED
    plain SIGKILL, SIGTERM, lost connection, 0        KILLED              KILLED
    any other signal (SIGILL, SIGFPE, ...)            SUSPECT             SUSPECT

A SUSPECT is not charged and runs alone until its next checkpoint, so that the guilty one shows itself. A hang is no
charged death either: the server ended the worker itself, and nothing proves that the job and not the machine stood.
But the third attempt that ends SUSPECT alone, with no checkpoint since it came under suspicion, fails the job as poison
(`jobs.lifecycle`).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from safelight.core.states import AttemptEnd

EXIT_LOST = 75
"""A worker's exit code when its server is gone (EX_TEMPFAIL)."""

EXIT_BROKEN = 70
"""A worker's exit code after `Broken` (EX_SOFTWARE)."""

WINDOWS_FAULTS = frozenset({0xC0000005, 0xC0000006, 0xC00000FD, 0xC0000374, 0xC0000409})
"""Exit codes there for: access violation, in-page error, stack overflow, heap corruption, abort."""

_CRASHES = frozenset(getattr(signal, name, None) for name in ("SIGSEGV", "SIGBUS", "SIGABRT"))
_STOPS = frozenset(getattr(signal, name, None) for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"))


class Released(NamedTuple):
    """An attempt that ended with its worker. `message`: why, in words; `trace`: of the worker's own error."""

    job: str
    attempt: int
    end: AttemptEnd
    message: str
    trace: str = ""

    @property
    def alone(self) -> bool:
        """Whether its next attempt runs beside nothing until a checkpoint."""
        return self.end is AttemptEnd.SUSPECT


@dataclass(frozen=True)
class Death:
    """How a worker ended.

    code: its exit code, minus the signal that ended it, or None where nobody saw it. oom: the kernel's out-of-memory
    killer did it. hung: why the server took it for hung. stopping: the server had asked it to end.
    error, trace: what it said was wrong with itself.
    """

    code: int | None
    oom: bool = False
    hung: str = ""
    stopping: bool = False
    error: str = ""
    trace: str = ""

    @property
    def signal(self) -> signal.Signals | None:
        """The signal that ended it."""
        try:
            return signal.Signals(-self.code) if self.code is not None and self.code < 0 else None
        except ValueError:
            return None

    @property
    def crashed(self) -> bool:
        """Whether native code broke or memory ran out."""
        windows = sys.platform == "win32" and self.code is not None and self.code & 0xFFFFFFFF in WINDOWS_FAULTS
        return self.signal in _CRASHES or self.oom or windows

    def words(self) -> str:
        """How it ended, for people."""
        if self.hung:
            return f"was ended by the server: {self.hung}"
        if self.oom:
            return "was ended by the kernel's out-of-memory killer"
        if self.signal is not None:
            return f"was ended by {self.signal.name}"
        if self.error:
            return f"broke: {self.error}"
        if self.code == EXIT_LOST:
            return "lost its connection to the server"
        return "ended, nobody saw how" if self.code is None else f"ended with exit code {self.code}"


def released(worker: str, death: Death, attempts: Sequence[tuple[str, int]]) -> list[Released]:
    """What becomes of `attempts`, the (job, attempt) pairs that `worker` had open."""
    alone = len(attempts) == 1
    end = _end(death, alone)
    others = "" if alone or end is not AttemptEnd.SUSPECT else f" while {len(attempts)} jobs were open"
    message = f"The worker {worker} {death.words()}{others}."
    return [Released(job, attempt, end, message, death.trace) for job, attempt in attempts]


def _end(death: Death, alone: bool) -> AttemptEnd:
    if death.hung:
        return AttemptEnd.SUSPECT
    if death.crashed:
        return AttemptEnd.CRASHED if alone else AttemptEnd.SUSPECT
    if death.stopping:
        return AttemptEnd.SERVER_STOPPED
    if death.code is None or death.code in (0, EXIT_LOST) or death.signal in _STOPS:
        return AttemptEnd.KILLED
    if death.code > 0:
        return AttemptEnd.ERROR if alone else AttemptEnd.SUSPECT
    return AttemptEnd.SUSPECT


def oom_kills(root: Path = Path("/")) -> int | None:
    """How often the kernel's out-of-memory killer has struck among us, or None where that cannot be read.

    Counted for this process's own control group (v2: memory.events, v1: memory.oom_control), else for the machine
    (/proc/vmstat). `root`: of the file system, for tests.
    """
    groups = _read(root / "proc/self/cgroup")
    for line in groups.splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        place = path.lstrip("/")
        if not controllers:
            found = _count(root / "sys/fs/cgroup" / place / "memory.events")
        elif "memory" in controllers.split(","):
            found = _count(root / "sys/fs/cgroup/memory" / place / "memory.oom_control")
        else:
            continue
        if found is not None:
            return found
    return _count(root / "proc/vmstat")


def _count(path: Path) -> int | None:
    for line in _read(path).splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

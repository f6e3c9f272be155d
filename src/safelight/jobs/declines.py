"""Jobs that a worker declined, and when they are offered again: soon at first, ever later while nothing changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from safelight.jobs.ledger import Clock

FIRST_S = 2.0
"""A job that was declined once, or after which something else has ended, is offered again after so long."""

LONGEST_S = 64.0
"""No pause between two offers is longer. Each is twice the one before: a disk may be full for a weekend, and every
offer is a stored attempt with its events."""


@dataclass
class _Declined:
    """`pause_s` from `at` (ticks) on."""

    at: float
    pause_s: float


class Declines:
    """Which jobs are not to be offered just now. `tick`: monotonic seconds."""

    def __init__(self, tick: Clock) -> None:
        self._tick = tick
        self._declined: dict[str, _Declined] = {}
        self._running: frozenset[str] = frozenset()
        self._leaving: frozenset[str] = frozenset()

    def note(self, job_id: str) -> None:
        """A worker declined the job."""
        before = self._declined.get(job_id)
        pause = FIRST_S if before is None else min(2 * before.pause_s, LONGEST_S)
        self._declined[job_id] = _Declined(self._tick(), pause)
        self._leaving |= {job_id}

    def runs(self, job_ids: Iterable[str]) -> None:
        """What runs now. Where something has ended that was not declined, there is room again, and all that wait for
        some are offered after the shortest pause."""
        now = frozenset(job_ids)
        if self._running - now - self._leaving:
            for each in self._declined.values():
                each.pause_s = FIRST_S
        self._running, self._leaving = now, self._leaving & now

    def waits(self, job_id: str) -> bool:
        """Whether the job's pause is not over. Long after that the decline is forgotten."""
        now = self._tick()
        self._declined = {
            job: each for job, each in self._declined.items() if now < each.at + each.pause_s + LONGEST_S
        }  # fmt: skip
        declined = self._declined.get(job_id)
        return declined is not None and now < declined.at + declined.pause_s

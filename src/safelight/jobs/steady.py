"""The clock that ages are counted on: the wall clock with its jumps left out.

A wall clock may be days or decades off and then be set right (a board without a battery, a virtual machine that was
suspended, a slip of a hand). Whatever was stamped before then looks far too old or too young. Each use of time has the
clock that this does least harm to:

- leases, heartbeats, pauses between tries: monotonic time of the running server;
- order of events, of jobs and of pages: sequence numbers, no clock at all;
- ages, by which retention and the bin remove things, and how long a job may wait (`deadline`): this clock;
- what people read (`created_at`, `at`) and what they ask for by date (`since`, `not_before`): the wall clock as it
  stands at that moment. A jump moves these by as much; nothing could tell which of the two times was meant.

The steady clock is set to the wall clock when a store is first opened. Then it goes on with monotonic time, and over a
restart by what the wall clock went on meanwhile, but never back and by at most `LONGEST_GAP_S`: a longer time without a
server may as well be a jump, and counting too little keeps things longer, where counting too much would delete them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEY = "clock"
"""Of the note in which a store keeps it."""

LONGEST_GAP_S = 86_400.0
"""The most that one restart adds."""


class SteadyClock:
    """Seconds since the epoch as far as they were witnessed. `at` before `resume` is 0 at tick 0."""

    def __init__(self) -> None:
        self._ahead_of_tick = 0.0

    def resume(self, note: Mapping[str, Any] | None, wall: float, tick: float) -> None:
        """Go on from what an earlier server noted, or begin at the wall clock."""
        steady = wall
        if note is not None:
            steady = note["steady"] + min(max(0.0, wall - note["wall"]), LONGEST_GAP_S)
        self._ahead_of_tick = steady - tick

    def at(self, tick: float) -> float:
        """The time at that monotonic second of this server."""
        return tick + self._ahead_of_tick

    def note(self, wall: float, tick: float) -> dict[str, float]:
        """What the next server needs to go on."""
        return {"steady": self.at(tick), "wall": wall}

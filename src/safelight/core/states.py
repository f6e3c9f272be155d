"""The states of a job, and the one table of moves between them.

    queued ──► running ──► succeeded | failed | cancelled
      ▲  │        │
      │  └────────┼──────► cancelled            (nobody has started it)
      └───────────┤                             rescued, pre-empted, retried
      ▲           ▼
      └─────── paused ───► cancelled            by the owner

queued: accepted and committed; waits for a worker.
running: one attempt holds its lease.
paused: the owner set it aside; its checkpoint stays.
succeeded, failed, cancelled: over. Nothing leaves them; `retry` makes a new job.
"""

from __future__ import annotations

from enum import StrEnum

from safelight.errors import Conflict


class JobState(StrEnum):
    """Where a job is; see the module's drawing."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether nothing will happen to the job any more."""
        return not MOVES[self]


MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.PAUSED, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset(
        {JobState.QUEUED, JobState.PAUSED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.RUNNING, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def move(state: JobState, target: JobState) -> JobState:
    """`target`, if the table allows the move; else Conflict with the moves that are allowed."""
    if target not in MOVES[state]:
        allowed = ", ".join(sorted(MOVES[state])) or "none: the job is over"
        raise Conflict(f"A job that is {state} cannot become {target}.", f"Allowed from here: {allowed}.")
    return target


class AttemptEnd(StrEnum):
    """How an attempt ended. Only the charged ones count towards a job's failure (see `CHARGED`)."""

    SUCCEEDED = "succeeded"
    ERROR = "error"
    REFUSED = "refused"
    CRASHED = "crashed"
    KILLED = "killed"
    SUSPECT = "suspect"
    EXPIRED = "expired"
    PREEMPTED = "preempted"
    SERVER_STOPPED = "server_stopped"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    PAUSED = "paused"


CHARGED: frozenset[AttemptEnd] = frozenset({AttemptEnd.ERROR, AttemptEnd.CRASHED})
"""ERROR: raised in the job's own rows. CRASHED: its worker died of SIGSEGV, SIGBUS, SIGABRT or the kernel's
out-of-memory killer while this was its only open job. Everything else is bad luck and free."""

MAX_CHARGED_ERRORS = 3
"""This many charged errors fail a job."""

MAX_CHARGED_CRASHES = 2
"""This many charged crashes fail a job as poison."""

MAX_LONE_SUSPICIONS = 3
"""So many attempts that ended SUSPECT although nothing ran beside them fail a job as poison."""

"""A stage under way: its handler, what it waits for, and what it last left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import count
from typing import Any

from safelight.core.handlers import StageRecord
from safelight.core.stages import Stage
from safelight.engine.batcher import Outcome, Wanted
from safelight.engine.results import Result
from safelight.engine.work import Boundary, Notice, RunState, Work

_tickets: Iterator[int] = count(1)

FORGETS = 0.7
"""What is left of a slow step's time, as an expectation, a step later."""


class Task:
    """Drives one handler. Runnable unless it waits for clean latents or for a future.

    `step_s`: what a step takes, seconds: the slowest of late; 0 before two are done.
    """

    def __init__(self, number: int, stage: Stage, record: StageRecord, work: Work) -> None:
        self.number, self.stage, self.record = number, stage, record
        self.began = self.served = time.monotonic()
        self.state: RunState | None = None
        self.result: Result | None = None
        self.step_s = 0.0
        self.future: Future[Any] | None = None
        self.wanted: list[Wanted] = []
        self._outcomes: dict[int, Outcome] = {}
        self._asked: list[int] = []
        self._work = work
        self._answer: Any = None
        self._stepped_at: float | None = None

    @property
    def runnable(self) -> bool:
        """Whether `advance` has something to do now."""
        return not self.wanted and (self.future is None or self.future.done())

    def answer(self, wanted: Wanted, outcome: Outcome) -> None:
        """Give the task the outcome of one evaluation it asked for."""
        self._outcomes[wanted.ticket] = outcome
        self.wanted = [each for each in self.wanted if each.ticket != wanted.ticket]

    def advance(self) -> Boundary | Notice | None:
        """Let the handler do its next piece; returns what the loop must pass on. Sets `result` at its end.

        Raises what the handler raises; a failed evaluation is raised inside it first, so that it can let go.
        """
        self.served = time.monotonic()
        try:
            yielded = self._resume()
        except StopIteration as stop:
            self.result = stop.value
            return None
        self._answer = None
        match yielded:
            case list():
                now = time.monotonic()
                self.wanted = [Wanted(evaluation, next(_tickets), now) for evaluation in yielded]
                self._asked = [each.ticket for each in self.wanted]
            case Future():
                self.future = yielded
            case Boundary():
                self.state = yielded.state
                self._pace()
                return yielded
            case Notice():
                return yielded
        return None

    def close(self) -> None:
        """Stop the handler; it gives back what it borrowed."""
        self._work.close()

    def _pace(self) -> None:
        """A step has ended: learn what one takes. A slow one is forgotten over the next few."""
        now = time.monotonic()
        if self._stepped_at is not None:
            self.step_s = max(now - self._stepped_at, FORGETS * self.step_s)
        self._stepped_at = now

    def _resume(self) -> Any:
        if self._asked:
            outcomes = [self._outcomes.pop(ticket) for ticket in self._asked]
            self._asked = []
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    return self._work.throw(outcome)
            return self._work.send(outcomes)
        if self.future is not None:
            future, self.future = self.future, None
            error = future.exception()
            return self._work.throw(error) if error is not None else self._work.send(future.result())
        return next(self._work)

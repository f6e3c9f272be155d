"""A job that is open in this worker: its recipe, the stages under way, the results kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safelight.core.plans import Plan
from safelight.core.stages import Handle, Recipe, Stage
from safelight.engine.checkpoint import Identity, Snapshot
from safelight.engine.results import Facts, Result
from safelight.engine.task import Task
from safelight.engine.work import RunState


@dataclass(frozen=True)
class Order:
    """An attempt to carry out.

    `recipe`: fresh. `request`: hash of the resolved request. `folder`: where checkpoints of this attempt go.
    `checkpoint`: one to go on from. `plan`: that of a deterministic job's first attempt; empty at the first.
    """

    job: str
    attempt: int
    recipe: Recipe
    request: str
    folder: Path
    deterministic: bool = False
    checkpoint: Path | None = None
    previews: bool = False
    plan: Plan = field(default_factory=dict)


@dataclass(eq=False)
class OpenJob:
    """The state of an open attempt. The recipe is replayed from kept results up to where the work is new.

    `plan`: how its arithmetic is done. `width`: rows of the widest pass it had part in. `peak_bytes`: the most the
    process held beyond what it began with, as seen after each turn the job was open in.
    """

    order: Order
    plan: Plan = field(default_factory=dict)
    width: int = 0
    results: dict[int, Result] = field(default_factory=dict)
    resumable: Mapping[int, RunState] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    previews: bool = False
    leaving: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    checkpoint_at: float = field(default_factory=time.monotonic)
    checkpoint_serial: int = 0
    writing: Future[Any] | None = None
    changed: bool = False
    peak_bytes: int = 0
    closed: bool = False
    _asked: tuple[int, ...] | int | None = None
    _stages: int = 0

    @property
    def key(self) -> tuple[str, int]:
        """(job, attempt)."""
        return self.order.job, self.order.attempt

    def proceed(self, begin: Callable[[int, Stage], None]) -> Mapping[str, Any] | None:
        """Let the recipe ask on while all it asked for is there; `begin` starts what is new.

        Returns the job's result once the recipe has ended, else None.
        """
        while not self.tasks:
            try:
                asked = self.order.recipe.send(self._handles())
            except StopIteration as stop:
                return self._result(stop.value)
            stages = asked if isinstance(asked, tuple) else (asked,)
            numbers = tuple(range(self._stages, self._stages + len(stages)))
            self._stages += len(stages)
            self._asked = numbers if isinstance(asked, tuple) else numbers[0]
            for number, stage in zip(numbers, stages, strict=True):
                begin(number, stage)
        return None

    def _result(self, ended: Mapping[str, Any] | Handle | None) -> dict[str, Any]:
        """What the recipe ended with; a handle stands for the facts that are kept there."""
        if not isinstance(ended, Handle):
            return dict(ended or {})
        facts = self.results[ended.number]
        if not isinstance(facts, Facts):
            raise TypeError(f"A recipe may end with the handle of facts, not of a {type(facts).__name__}.")
        return dict(facts.facts)

    def finish(self, task: Task, result: Result) -> None:
        """Keep a finished stage's result."""
        del self.tasks[task.number]
        self.results[task.number] = result
        self.changed = True
        spent = time.monotonic() - task.began
        self.timings[task.record.timing] = self.timings.get(task.record.timing, 0.0) + spent

    def snapshot(self, identity: Identity) -> Snapshot:
        """The job between two steps: each open run as it was at its last step boundary."""
        waiting = {number: run for number, run in self.resumable.items() if number not in self.results}
        under_way = {number: task.state for number, task in self.tasks.items() if task.state is not None}
        return Snapshot(identity, dict(self.results), {**waiting, **under_way}, self.width)

    def close(self) -> None:
        """Stop everything; what was borrowed is given back."""
        self.closed = True
        for task in self.tasks.values():
            task.close()
        self.tasks.clear()
        self.order.recipe.close()

    def _handles(self) -> Any:
        if self._asked is None:
            return None
        if isinstance(self._asked, int):
            return Handle(self._asked)
        return tuple(Handle(number) for number in self._asked)

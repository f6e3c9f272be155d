"""What a stage's handler says to the loop, and what it may use.

A handler is a generator `(stage, desk) -> Work`. It yields

- a list of evaluations, and is sent their clean latents;
- `PIECE` when it has done a piece of work of its own (a tile, a prompt) and others may have a turn;
- a `Future`, and is sent its result;
- a `Boundary` after each step of a run: here progress is told, checkpoints are taken, runs are paused;
- a `Notice` for the job's owner;

and returns the stage's result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from safelight.core.events import EventKind
from safelight.core.plans import Plan
from safelight.core.stages import Handle, Stage
from safelight.core.tables import Tables
from safelight.engine.evaluation import Evaluation
from safelight.engine.residency.bench import Bench
from safelight.engine.results import Result


@dataclass(frozen=True)
class Piece:
    """A piece of work is done; others may have a turn."""


PIECE = Piece()


@dataclass(frozen=True)
class RunState:
    """A run between two steps, as plain data: enough to go on anywhere.

    `place`: moves of the plan that are done. x: fp32 [C, H, W]. `memory`: the sampler's. `noise`: the stream's.
    """

    place: int
    x: Tensor
    memory: Mapping[str, Tensor | float | int] = field(default_factory=dict)
    noise: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Boundary:
    """A step is done: number `step` of `steps`, down to `sigma`. `clean`: the clean latent it saw last."""

    state: RunState
    picture: int
    step: int
    steps: int
    sigma: float
    clean: Tensor


@dataclass(frozen=True)
class Notice:
    """Something to tell the job's owner."""

    kind: EventKind
    data: Mapping[str, Any]


Yielded = list[Evaluation] | Piece | Future[Any] | Boundary | Notice
Work = Generator[Yielded, Any, Result]
"""A stage under way."""


@dataclass(frozen=True)
class Desk:
    """What a handler may use.

    `results`: kept results by stage number. `artifacts`: root of the content-addressed files. `saver`: threads for
    writing. `deterministic`: the same bytes in any company; `word`: names this stage among all that are open.
    `plan`: how the arithmetic is done; `width`: rows of the widest pass the job had part in so far.
    `resumed`: the run to go on from, for a Sample.
    """

    tables: Tables
    bench: Bench
    results: Mapping[int, Result]
    artifacts: Path
    saver: Executor
    deterministic: bool = False
    word: str = ""
    plan: Plan = field(default_factory=dict)
    width: int = 0
    resumed: RunState | None = None

    def result(self, handle: Handle) -> Result:
        """The kept result that a handle names."""
        return self.results[handle.number]


Handler = Callable[[Stage, Desk], Work]
"""What carries out one kind of stage."""

"""The batcher: the only driver of networks. It turns what many runs want into few forward passes.

A pass has no side effects, so it may be halved and run again when it fails: a row that fails alone fails its own
job, and no one else's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from safelight.engine.evaluation import Evaluation
from safelight.engine.residency import memory
from safelight.placement.profiles import PassKey, Profiles


@dataclass(frozen=True, eq=False)
class Wanted:
    """An evaluation that somebody waits for. `since`: when it was asked, to be fair between groups."""

    evaluation: Evaluation
    ticket: int
    since: float


Outcome = Tensor | Exception
"""The clean latent [C, H, W], or why that row has none."""


class Room(Protocol):
    """Bytes for passes (engine.residency.passes)."""

    def rows(self, evaluation: Evaluation, key: PassKey, most: int) -> int:
        """How many of `most` rows of this kind the next pass may have; at least 1."""
        ...

    def run(self, evaluations: Sequence[Evaluation], key: PassKey, forward: Callable[[], Tensor]) -> Tensor:
        """Do the pass; raises what it raises, and OutOfMemory where it is known not to fit."""
        ...

    def relieve(self) -> bool:
        """After running out of memory: let go of what nobody uses. Whether that was anything."""
        ...

    def refused(self, evaluation: Evaluation, key: PassKey) -> Exception:
        """Why a row that ran out of memory alone has no answer."""
        ...


class Batcher:
    """Chooses which evaluations share the next pass, and runs it."""

    def __init__(
        self,
        limit: int,
        dtype: str,
        profiles: Profiles,
        measured: Callable[[PassKey, int, float], None] = lambda key, width, seconds: None,
        room: Room | None = None,
    ) -> None:
        self.limit = limit
        self.dtype = dtype
        self.profiles = profiles
        self._measured = measured
        self._room = room

    def choose(self, waiting: Sequence[Wanted]) -> list[Wanted]:
        """The rows of the next pass: of the group that has waited longest, as many as pay. Empty if none wait."""
        if not waiting:
            return []
        first = min(waiting, key=lambda wanted: (wanted.since, wanted.ticket))
        group = [wanted for wanted in waiting if wanted.evaluation.group == first.evaluation.group]
        group.sort(key=lambda wanted: (wanted.since, wanted.ticket))
        if first.evaluation.exclusive:
            return group
        key = self.key(first.evaluation)
        most = min(len(group), self.limit)
        if self._room is not None:
            most = self._room.rows(first.evaluation, key, most)
        return group[: self.profiles.width(key, len(group), most)]

    def key(self, evaluation: Evaluation) -> PassKey:
        """What a pass of this evaluation is measured under."""
        shape = "x".join(str(side) for side in (*evaluation.x.shape, evaluation.conditioning.sequence.shape[0]))
        return evaluation.network.key, shape, self.dtype

    def expect(self, rows: Sequence[Wanted]) -> float:
        """Seconds that a pass of these rows should take; 0 where nothing is known."""
        return self.profiles.expect(self.key(rows[0].evaluation), len(rows)) if rows else 0.0

    def run(self, rows: Sequence[Wanted]) -> list[Outcome]:
        """One pass over rows of one group; where it fails, halves, down to the rows that cannot run alone. A pass of a
        deterministic picture is not halved: it fails whole."""
        evaluations = [wanted.evaluation for wanted in rows]
        key = self.key(evaluations[0])
        began = time.perf_counter()
        clean = self._attempt(evaluations, key)
        if _ran_out(clean) and self._room is not None:
            clean = self._room.refused(evaluations[0], key)  # the trace went, which held what the pass had allocated
            if self._room.relieve() and not _ran_out(again := self._attempt(evaluations, key)):
                clean = again
        if isinstance(clean, Exception):
            if len(rows) == 1 or evaluations[0].exclusive:  # another width would give a planned picture other last bits
                return [clean] * len(rows)
            half = len(rows) // 2
            del clean
            memory.relieve(evaluations[0].x.device)
            return [*self.run(rows[:half]), *self.run(rows[half:])]
        seconds = time.perf_counter() - began
        self.profiles.observe(key, len(rows), seconds)
        self._measured(key, len(rows), seconds)
        return [row.clone() for row in clean]  # a view would keep the whole batch alive

    def _attempt(self, evaluations: Sequence[Evaluation], key: PassKey) -> Tensor | Exception:
        """The pass's clean latents, or what it raised: a network may fail in any way, and that costs nobody else."""
        try:
            if self._room is None:
                return forward(evaluations)
            return self._room.run(evaluations, key, lambda: forward(evaluations))
        except Exception as error:  # noqa: BLE001 - recorded as the outcome of the rows
            return error


def _ran_out(clean: Tensor | Exception) -> bool:
    return isinstance(clean, Exception) and memory.ran_out(clean)


def forward(evaluations: Sequence[Evaluation]) -> Tensor:
    """One forward pass of the network over evaluations of one group: fp32 [n, C, H, W]."""
    lent = evaluations[0].network
    with torch.inference_mode(), lent.host.rows([each.network.row for each in evaluations]):
        clean = lent.network.denoise(
            torch.stack([each.x for each in evaluations]),
            [each.sigma for each in evaluations],
            [each.conditioning for each in evaluations],
        )
    if clean.device.type == "cuda":
        torch.cuda.synchronize(clean.device)
    return clean

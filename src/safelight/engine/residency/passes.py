"""Room for passes: how many rows fit, and what a row is told that does not fit alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from safelight.engine.evaluation import Evaluation
from safelight.engine.residency.bench import Bench
from safelight.errors import OutOfMemory
from safelight.placement.ladder import a_pass
from safelight.placement.plan import Need
from safelight.placement.profiles import PassKey


class PassRoom:
    """What the batcher asks about bytes (batcher.Room), answered by the bench."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._working = bench.working

    def rows(self, evaluation: Evaluation, key: PassKey, most: int) -> int:
        """How many of `most` rows the next pass may have; 1 also where even that is too much, and `run` says so."""
        try:
            return self._bench.make_room(self._need(evaluation, key, most)).size
        except OutOfMemory:
            return 1

    def run(self, evaluations: Sequence[Evaluation], key: PassKey, forward: Callable[[], Tensor]) -> Tensor:
        """The pass. Raises what it raises, and NoRoomNow or OutOfMemory where it is known not to fit."""
        need = self._need(evaluations[0], key, len(evaluations))
        self._bench.make_room(replace(need, forms=need.forms[:1]))
        return self._working.run(key, len(evaluations), forward)

    def relieve(self) -> bool:
        """Let everything go that nobody uses. Whether that was anything."""
        return self._working.relieve()

    def refused(self, evaluation: Evaluation, key: PassKey) -> OutOfMemory:
        """Why a row that ran out of memory alone has no answer."""
        return self._working.refused(self._need(evaluation, key, 1))

    def _need(self, evaluation: Evaluation, key: PassKey, rows: int) -> Need:
        lent = evaluation.network
        factor = lent.kind.factor if lent.kind is not None else 8
        height, width = (int(side) * factor for side in evaluation.x.shape[-2:])
        share = lent.kind.pass_bytes_per_pixel if lent.kind is not None else 0
        expect = self._working.expect(key, share * width * height)
        what = f"A pass over {width} x {height} pixels with {lent.name or lent.key}"
        need = a_pass(what, rows, expect, (width, height), self._bench.device.type)
        return replace(need, uses=(lent.key,))

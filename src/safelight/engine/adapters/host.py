"""Hanging adapters into a network and taking them out: detach is the exact inverse of attach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from safelight.engine.adapters.layers import LoraLayer, LoraPath, fitted, wrapped
from safelight.engine.adapters.rows import Assignment, RowTable, plan_uses
from safelight.engine.adapters.targets import Targets
from safelight.engine.weights.lora import LowRank


class AdapterHost:
    """The adapters of one network or text encoder. A module has one host; not for use from two threads.

    While adapters hang, the layers they serve are wrapped and the base weights stay as they are; only rows that a
    `rows` table names see them. When the last one is detached every original layer is back in its place.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._targets = Targets(module)
        self._table = RowTable()
        self._slots: dict[str, str] = {}
        self._reports: dict[str, tuple[str, ...]] = {}
        self._layers: dict[str, LoraLayer] = {}
        self._made = 0

    @property
    def attached(self) -> tuple[str, ...]:
        """Keys of the adapters that hang, oldest first."""
        return tuple(self._slots)

    @property
    def bytes(self) -> int:
        """Bytes of all low-rank weights that hang."""
        return sum(
            path.bytes for layer in self._layers.values() for path in layer.paths.values() if isinstance(path, LoraPath)
        )

    def attach(
        self, key: str, pairs: Mapping[str, LowRank], dtype: torch.dtype, device: torch.device
    ) -> tuple[str, ...]:
        """Hang the pairs (by layer name, as files write it) under `key`; a key that hangs already is left as it is.

        dtype: what the paths are computed in. Returns a line for each pair that found no place: its name and why.
        """
        if key in self._slots:
            return self._reports[key]
        self._made += 1
        slot = f"adapter_{self._made}"
        unmatched: list[str] = []
        paths: dict[str, LoraPath] = {}
        for name, pair in pairs.items():
            where = self._targets.find(name)
            if where is None:
                unmatched.append(f"{name}: there is no such layer here")
            elif where in paths:
                unmatched.append(f"{name}: another pair of this file is for the same layer, {where}")
            else:
                path = fitted(pair, self._targets.layers[where], dtype, device)
                if isinstance(path, str):
                    unmatched.append(f"{name}: {path}")
                else:
                    paths[where] = path
        for where, path in paths.items():
            self._layer(where).paths[slot] = path
        self._slots[key] = slot
        self._reports[key] = tuple(unmatched)
        return self._reports[key]

    def detach(self, key: str) -> None:
        """Take an adapter out; layers that serve no other are the original objects again. Unknown keys are ignored."""
        slot = self._slots.pop(key, None)
        if slot is None:
            return
        del self._reports[key]
        for where, layer in list(self._layers.items()):
            if slot in layer.paths:
                del layer.paths[slot]
            if not len(layer.paths):
                self._put(where, self._layers.pop(where).base)

    @contextmanager
    def rows(self, assignments: Sequence[Assignment]) -> Iterator[None]:
        """Within, passes run with these adapters, an assignment a row (dim 0); one alone holds for every row.

        Rows with none, or with strengths of 0, are exactly the base's. ValueError for a key that does not hang here.
        Without this context no adapter has any effect.
        """
        missing = {key for assignment in assignments for key, _ in assignment} - self._slots.keys()
        if missing or not assignments:
            known = ", ".join(self._slots) or "none"
            raise ValueError(f"Cannot run rows with {sorted(missing) or 'no assignment'}; attached here: {known}.")
        table, before = self._table, (self._table.uses, self._table.width)
        table.uses, table.width = plan_uses(assignments, self._slots, self._device())
        try:
            yield
        finally:
            table.uses, table.width = before

    def _layer(self, where: str) -> LoraLayer:
        if where not in self._layers:
            self._layers[where] = wrapped(self._targets.layers[where], self._table)
            self._put(where, self._layers[where])
        return self._layers[where]

    def _put(self, where: str, layer: nn.Module) -> None:
        parent, _, name = where.rpartition(".")
        setattr(self._module.get_submodule(parent), name, layer)

    def _device(self) -> torch.device:
        first = next(self._module.parameters(), None)
        return torch.device("cpu") if first is None else first.device

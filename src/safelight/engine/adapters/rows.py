"""The table of rows: which rows of the pass under way run with which adapters, and how strongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Assignment = Sequence[tuple[str, float]]
"""What one row runs with: (adapter's key, strength) each."""


@dataclass(frozen=True)
class Use:
    """An adapter in a pass: the rows of dim 0 that have it, and their strengths: one for all, or fp32 [rows]."""

    slot: str
    rows: slice | Tensor
    strength: float | Tensor


class RowTable:
    """Read by every layer at each forward. `width`: rows a pass must have, or None where every row is alike."""

    def __init__(self) -> None:
        self.uses: tuple[Use, ...] = ()
        self.width: int | None = None


def plan_uses(
    assignments: Sequence[Assignment], slots: Mapping[str, str], device: torch.device
) -> tuple[tuple[Use, ...], int | None]:
    """The uses of a pass, and the width that it must have.

    A row that names an adapter twice has the sum of its strengths; a strength of 0 is no use at all. Where all rows are
    alike the uses hold for any number of rows.
    """
    totals: list[dict[str, float]] = []
    for assignment in assignments:
        total: dict[str, float] = {}
        for key, strength in assignment:
            total[key] = total.get(key, 0.0) + strength
        totals.append({key: strength for key, strength in total.items() if strength != 0})
    if all(total == totals[0] for total in totals):
        return tuple(Use(slots[key], slice(None), strength) for key, strength in totals[0].items()), None
    keys = dict.fromkeys(key for total in totals for key in total)
    return tuple(_use(slots[key], [total.get(key, 0.0) for total in totals], device) for key in keys), len(totals)


def _use(slot: str, strengths: Sequence[float], device: torch.device) -> Use:
    rows = [row for row, strength in enumerate(strengths) if strength != 0]
    used = [strengths[row] for row in rows]
    together = rows[-1] - rows[0] + 1 == len(rows)
    where = slice(rows[0], rows[-1] + 1) if together else torch.tensor(rows, device=device)
    alike = len(set(used)) == 1
    return Use(slot, where, used[0] if alike else torch.tensor(used, dtype=torch.float32, device=device))

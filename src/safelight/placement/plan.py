"""What must leave memory so that something fits: evictions, or a refusal in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HALF_LIFE_S = 600.0
"""A use counts half as much after ten minutes."""


@dataclass(frozen=True)
class Held:
    """A component in memory. `uses`: recent uses (see `recent`); `reload_s`: measured seconds to bring it back."""

    key: str
    bytes: int
    uses: float
    reload_s: float
    in_use: bool = False
    pinned: bool = False

    @property
    def worth(self) -> float:
        """What its bytes earn: recent uses times the seconds that a reload would cost, a byte."""
        return self.uses * self.reload_s / max(1, self.bytes)


@dataclass(frozen=True)
class Evictions:
    """It fits once these are gone, least worth first. Empty: it fits as it is."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class Refusal:
    """It does not fit. `ever`: whether it could, were everything else idle."""

    message: str
    hint: str
    ever: bool


def recent(uses: float, since_s: float) -> float:
    """Recent uses after `since_s` seconds without one."""
    return float(uses * 0.5 ** (since_s / HALF_LIFE_S))


def plan(what: str, wanted: int, held: Sequence[Held], budget: int) -> Evictions | Refusal:
    """What to evict so that `wanted` bytes fit under `budget` beside what stays. Never what is in use or pinned."""
    free = budget - sum(each.bytes for each in held)
    gone: list[str] = []
    for each in sorted(held, key=lambda entry: entry.worth):
        if free >= wanted:
            break
        if not each.in_use and not each.pinned:
            gone.append(each.key)
            free += each.bytes
    if free >= wanted:
        return Evictions(tuple(gone))
    stays = sum(each.bytes for each in held if each.in_use or each.pinned)
    ever = wanted <= budget - sum(each.bytes for each in held if each.pinned)
    return Refusal(
        f"{what} needs {mib(wanted)}; the budget is {mib(budget)} and {mib(stays)} of it is in use or pinned.",
        "It fits once the others are done." if ever else f"Raise devices.memory_gib to hold at least {mib(wanted)}.",
        ever,
    )


def mib(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**20:,.0f} MiB"

"""How something is made to fit into memory: what leaves, which form of the work is taken, or a refusal in words.

A piece of work has forms, from the one that is asked for down the ladder (`placement.ladder`) to the one that takes
least. Each is tried in turn, with everything evicted that nobody uses; the first that fits is taken.
"""

from __future__ import annotations

import math
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

    @property
    def stays(self) -> bool:
        """Whether it is never evicted."""
        return self.in_use or self.pinned


@dataclass(frozen=True)
class Form:
    """One way of doing a piece of work.

    `words`: "in tiles of 256 pixels"; empty as it was asked for. `bytes`: of the device, beside what is held. `size`:
    rows of a pass, side of a tile. `known`: the bytes were measured or counted; what is only guessed refuses nothing.
    `least`: so much has to be free, whatever the bytes say, since it once ran out with less.
    """

    words: str
    bytes: int
    size: int = 0
    known: bool = True
    least: int = 0


@dataclass(frozen=True)
class Need:
    """A piece of work and its forms, best first. `what`: in words.

    `picture`: the width and height in pixels of which its bytes are a fixed share each, in multiples of `grid`, where
    a smaller one can be asked for. `left_out`: rungs that this device does not have, and why. `uses`: keys of held
    components that it works with.
    """

    what: str
    forms: tuple[Form, ...]
    picture: tuple[int, int] = (0, 0)
    grid: int = 8
    left_out: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()

    @classmethod
    def weights(cls, what: str, count: int) -> Need:
        """Bytes that there is but one way to hold."""
        return cls(what, (Form("", count),))


@dataclass(frozen=True)
class Fit:
    """It fits in this form once the components `evict` are gone, least worth first; none: it fits as it is."""

    form: Form
    evict: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """It does not fit. `ever`: whether it could, were everything else idle."""

    message: str
    hint: str
    ever: bool = False


def recent(uses: float, since_s: float) -> float:
    """Recent uses after `since_s` seconds without one."""
    return float(uses * 0.5 ** (since_s / HALF_LIFE_S))


def plan(need: Need, held: Sequence[Held], budget: int) -> Fit | Refusal:
    """How `need` fits under `budget` bytes beside what is in use or pinned."""
    for form in need.forms:
        gone = evictions(max(form.bytes, form.least), held, budget)
        if gone is not None:
            return Fit(form, gone)
    last = need.forms[-1]
    if not last.known or last.bytes < last.least:  # a guess, or memory was short for a moment
        return Fit(last, idle(held))
    return refusal(need, held, budget)


def evictions(wanted: int, held: Sequence[Held], budget: int) -> tuple[str, ...] | None:
    """What leaves so that `wanted` bytes fit, least worth first and no more than it takes; None where it is not enough.
    Never what is in use or pinned."""
    free = budget - sum(each.bytes for each in held)
    gone: list[str] = []
    for each in sorted(held, key=lambda entry: entry.worth):
        if free >= wanted:
            break
        if not each.stays:
            gone.append(each.key)
            free += each.bytes
    return tuple(gone) if free >= wanted else None


def idle(held: Sequence[Held]) -> tuple[str, ...]:
    """All that may leave, least worth first."""
    return tuple(each.key for each in sorted(held, key=lambda entry: entry.worth) if not each.stays)


def refusal(need: Need, held: Sequence[Held], budget: int, ran_out: bool = False) -> Refusal:
    """Why `need` does not fit, in bytes of each form, and what would have to be different. `ran_out`: the device said
    so, whatever the budget says."""
    least = need.forms[-1].bytes
    stays = sum(each.bytes for each in held if each.stays)
    ever = least <= budget - sum(each.bytes for each in held if each.pinned or each.key in need.uses)
    if ran_out:
        ever = any(each.in_use and each.key not in need.uses for each in held)
    forms = ", ".join(f"{size(form.bytes)} {form.words}".rstrip() for form in need.forms)
    said = f"{need.what} needs {forms}; the budget is {size(budget)} and {size(stays)} of it is in use or pinned."
    if ran_out:
        said = f"{need.what} ran out of memory: it was to take {forms}, beside {size(stays)} in use or pinned."
    if need.left_out:
        said += f" {' '.join(need.left_out)}"
    if ever:
        return Refusal(said, "It fits once the others are done.", True)
    hint = "Raise devices.memory_hard_gib" if ran_out else f"Raise devices.memory_gib to {gib(stays + least)}"
    smaller = largest(need, max(0, budget - stays) if not ran_out else least // 2)
    if smaller is not None:
        hint += f", or ask for at most {smaller[0]} x {smaller[1]} pixels"
    return Refusal(said, f"{hint}.")


def largest(need: Need, free: int) -> tuple[int, int] | None:
    """The sides of the largest picture of the same shape that fits into `free` bytes in the last form; None where
    the size does not matter, or nothing would fit."""
    width, height = need.picture
    share = math.sqrt(min(1.0, free / max(1, need.forms[-1].bytes)))
    sides = int(width * share) // need.grid * need.grid, int(height * share) // need.grid * need.grid
    return sides if min(sides) > 0 else None


def size(count: int) -> str:
    """Bytes in words: MiB, from 10 GiB on GiB."""
    return f"{count / 2**30:,.1f} GiB" if count >= 10 * 2**30 else f"{math.ceil(count / 2**20):,} MiB"


def gib(count: int) -> str:
    """Bytes as a setting of GiB takes them: rounded up to a hundredth."""
    return f"{math.ceil(count / 2**30 * 100) / 100:g}"

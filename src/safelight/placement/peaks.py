"""The most that passes and pieces take of a device while they run, as measured: the bytes beside `profiles`' seconds.

A size counts rows of a pass, or pixels of a decode. It is measured twice and the smaller count is kept: the first also
holds what is made once (kernels, caches), and either what other threads took meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from safelight.placement.profiles import PassKey

_ENOUGH = 2


class Taken(NamedTuple):
    """What a size takes. `known`: exactly this size was measured, and often enough. `least`: so much has to be free,
    since it once ran out of memory with less."""

    bytes: int
    known: bool
    least: int = 0


@dataclass
class Peaks:
    """Measured bytes by key and size, and sizes that a device ran out of memory with. One owner; plain data."""

    bytes: dict[PassKey, dict[int, int]] = field(default_factory=dict)
    over: dict[PassKey, dict[int, int]] = field(default_factory=dict)
    _seen: dict[tuple[PassKey, int], int] = field(default_factory=dict)

    def wanted(self, key: PassKey, size: int) -> bool:
        """Whether to measure this size once more."""
        return self._seen.get((key, size), 0) < _ENOUGH

    def observe(self, key: PassKey, size: int, count: int) -> None:
        """It took `count` bytes."""
        self._seen[key, size] = self._seen.get((key, size), 0) + 1
        known = self.bytes.setdefault(key, {})
        known[size] = min(count, known.get(size, count))

    def went_well(self, key: PassKey, size: int) -> None:
        """That it once did not fit is forgotten: it does."""
        self.over.get(key, {}).pop(size, None)

    def ran_out(self, key: PassKey, size: int, free: int) -> None:
        """It ran out of memory although `free` bytes were thought free: it takes more than that."""
        known = self.over.setdefault(key, {})
        known[size] = max(free, known.get(size, 0))

    def expect(self, key: PassKey, size: int, guess: int) -> Taken:
        """Bytes that `size` takes: as measured, scaled from the nearest size, else `guess`."""
        known = self.bytes.get(key, {})
        least = max((free + 1 for each, free in self.over.get(key, {}).items() if each <= size), default=0)
        if size in known:
            return Taken(known[size], not self.wanted(key, size), least)
        if known:
            near = min(known, key=lambda each: abs(each - size))
            guess = -(-known[near] * size // near)
        return Taken(guess, False, least)

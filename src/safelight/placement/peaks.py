"""The most that passes and pieces take of a device while they run, as measured: the bytes beside `profiles`' seconds.

A size counts rows of a pass, or pixels of a decode. The first measurement of a size also holds what is made once
(kernels, caches) and is replaced by the second, which is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from safelight.placement.profiles import PassKey

_ENOUGH = 2


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
        """It took `count` bytes. That it once did not fit is forgotten: it does."""
        self._seen[key, size] = self._seen.get((key, size), 0) + 1
        self.bytes.setdefault(key, {})[size] = count
        self.over.get(key, {}).pop(size, None)

    def ran_out(self, key: PassKey, size: int, free: int) -> None:
        """It ran out of memory although `free` bytes were thought free: it takes more than that."""
        known = self.over.setdefault(key, {})
        known[size] = max(free, known.get(size, 0))

    def expect(self, key: PassKey, size: int, guess: int) -> tuple[int, bool]:
        """Bytes that `size` takes, and whether that was measured; scaled from the nearest size, else `guess`."""
        known = self.bytes.get(key, {})
        if size in known:
            return known[size], True
        if known:
            near = min(known, key=lambda each: abs(each - size))
            guess = -(-known[near] * size // near)
        least = max((free + 1 for each, free in self.over.get(key, {}).items() if each <= size), default=0)
        return max(guess, least), False

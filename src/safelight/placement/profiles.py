"""What passes cost, as measured, and the width that pays.

The cost of a pass of `w` rows is learnt per (network, shape, dtype). A pass is widened only where a row then costs
no more than in a narrower one; a width not yet tried is taken to be a little better a row than its narrower
neighbour, so that each is tried once. One that did not pay is forgotten slowly: what was measured while the machine
was busy with something else is measured again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PassKey = tuple[str, str, str]
"""(network, latent shape, dtype)."""

_HOPE = 0.97
_SMOOTHING = 0.3
_FORGETTING = 0.02
"""Of the gap to what is hoped for, with each narrower pass: a width twice too dear is tried again after 180 of them."""


@dataclass
class Profiles:
    """Measured seconds of passes by key and width. One owner; plain data in and out."""

    seconds: dict[PassKey, dict[int, float]] = field(default_factory=dict)

    def observe(self, key: PassKey, width: int, seconds: float) -> None:
        """Remember a pass. The first of a width warms caches up and is replaced by the second, later ones average."""
        known = self.seconds.setdefault(key, {})
        before = known.get(width)
        if before is None or seconds < before * 0.5:
            known[width] = seconds
        else:
            known[width] = before + _SMOOTHING * (seconds - before)
        row = known[width] / width
        for wider in known:
            if wider > width and known[wider] > row * wider:
                known[wider] += _FORGETTING * (row * wider * _HOPE - known[wider])

    def expect(self, key: PassKey, width: int) -> float:
        """Seconds that a pass of `width` rows will take; 0 where nothing is known."""
        known = self.seconds.get(key)
        if not known:
            return 0.0
        if width in known:
            return known[width]
        near = min(known, key=lambda each: (abs(each - width), -each))
        return known[near] * width / near * (_HOPE if width > near else 1.0)

    def width(self, key: PassKey, waiting: int, limit: int) -> int:
        """How many of `waiting` rows the next pass should take: at most `limit`, the cheapest a row, rather wide."""
        most = max(1, min(waiting, limit))
        if not self.seconds.get(key):
            return most
        return min(range(1, most + 1), key=lambda width: (self.expect(key, width) / width, -width))

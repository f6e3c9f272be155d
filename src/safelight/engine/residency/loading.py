"""What is told of a loading: its bytes, often enough to watch and seldom enough to store."""

from __future__ import annotations

import time
from collections.abc import Callable

Loading = Callable[[str, int, int], None]
"""Told of a component that is being read: its name, the bytes that are there, the bytes there will be."""

EVERY_S = 0.1
EVERY_BYTES = 64 << 20


class Progress:
    """How far the reading of a component is: told at its begin and end, every `EVERY_S` seconds or `EVERY_BYTES`."""

    def __init__(self, name: str, tell: Loading) -> None:
        self._name, self._tell = name, tell
        self._total = self._told = 0
        self._told_at = 0.0

    def begin(self, total: int) -> None:
        """None of `total` bytes is there."""
        self._total = total
        self._pass_on(0)

    def __call__(self, done: int) -> None:
        """So many bytes are there."""
        due = time.monotonic() - self._told_at >= EVERY_S or done - self._told >= EVERY_BYTES
        if due and done < self._total:
            self._pass_on(done)

    def end(self) -> None:
        """All of it is there."""
        self._pass_on(self._total)

    def _pass_on(self, done: int) -> None:
        self._told, self._told_at = done, time.monotonic()
        self._tell(self._name, done, self._total)

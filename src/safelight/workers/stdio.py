"""A child process's end of the two pipes that its parent holds. Light: small children import it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

from safelight.workers.frames import Unpacker, pack

CHUNK = 256 * 1024

M = TypeVar("M")


class Stdio(Generic[M]):
    """Messages on what were stdin and stdout. From here on prints go to stderr and stdin is empty.

    `kind`: the union of the messages that may come in.
    """

    def __init__(self, kind: Any) -> None:
        self.fileno = os.dup(0)
        self._out = os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        self._unpacker: Unpacker[M] = Unpacker(kind)

    def read(self) -> list[M] | None:
        """Wait for bytes; the messages they complete, or None when the parent is gone. BadFrame as in frames.py."""
        data = os.read(self.fileno, CHUNK)
        return list(self._unpacker.feed(data)) if data else None

    def __iter__(self) -> Iterator[M]:
        while (messages := self.read()) is not None:
            yield from messages

    def send(self, message: msgspec.Struct) -> None:
        """Write a message whole; BrokenPipeError when the parent is gone."""
        frame = memoryview(pack(message))
        while frame:
            frame = frame[os.write(self._out, frame) :]

    def close(self) -> None:
        """Let go of both pipes (a forked child must, or its parent's parent never sees their end)."""
        os.close(self.fileno)
        os.close(self._out)

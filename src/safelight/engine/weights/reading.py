"""Bringing weights in: from their files, or from the converted copy that an earlier reading left.

Bytes go straight to where they stay; what is stored otherwise than it is computed with passes through a small buffer.
Several threads read and convert, so that a cold disk has more than one request to work on, and every core some work.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safelight.engine.weights.converted import ConvertedWeights
from safelight.engine.weights.room import Placing, Plot
from safelight.engine.weights.stored import Piece, Span, StoredTensors
from safelight.errors import UnreadableFile

Plan = Mapping[str, Piece]
"""A network's parameter names -> where each lies."""

READERS = 4
STRIP = 4 << 20
"""Bytes of a file that are read at a time."""

GRAIN = 1 << 15
"""Numbers that are converted at a time: so many torch leaves to the one thread that asks. Its pool of threads waits for
the slowest, which on a busy host takes five times as long as the work."""

FORMAT = 1
"""Raised with every change of what is made of stored bytes, or of how a copy of it lies: older copies are not used."""

AHEAD = 2 * READERS
"""Strips that may be read before the first of them is dealt with."""


@dataclass(frozen=True)
class Reading:
    """How the weights of one network are read. `told(bytes)`: parameters that are there so far.

    `kept`: where converted copies are kept, or None.
    """

    told: Callable[[int], None] = lambda done: None
    kept: ConvertedWeights | None = None

    def parameters(self, stored: StoredTensors, plan: Plan, plot: Plot) -> dict[str, Tensor]:
        """The parameters of `plot`, read from where `plan` says. UnreadableFile where a file does not hold them."""
        spans = {name: stored.span(plan[name], shape) for name, shape in plot.shapes.items()}
        placing = plot.placing
        if placing.device.type != "cpu":
            made = plot.on_device()
            self._fill(stored, spans, made)
            return made
        key = _key(stored, plan, plot) if self.kept and _changes(spans, plot) else ""
        if self.kept and key and (found := self.kept.find(key, plot)) is not None:
            self.told(sum(parameter.nbytes for parameter in found.values()))
            return found
        block = plot.block()
        made = plot.parameters(block)
        self._fill(stored, spans, made)
        if self.kept and key:
            self.kept.keep(key, plot, block)
        return made

    def _fill(self, stored: StoredTensors, spans: Mapping[str, Span], made: Mapping[str, Tensor]) -> None:
        for header in stored.headers:
            if header.path.stat().st_size != header.size:
                raise _changed(header.path)
        done, passages = 0, _Passages()
        for strip in _brought(_strips(spans, made, passages)):
            if strip.passage is not None:
                passages.give(strip.passage)
            done += strip.into.nbytes
            self.told(done)


class _Passages:
    """Buffers that bytes pass through on their way, used again and again: fresh memory costs as much as the work."""

    def __init__(self) -> None:
        self._free: list[Tensor] = []

    def take(self, size: int) -> Tensor:
        """At least `size` bytes."""
        return self._free.pop() if self._free and size <= STRIP else torch.empty(max(size, STRIP), dtype=torch.uint8)

    def give(self, passage: Tensor) -> None:
        """It may be taken again."""
        if len(passage) == STRIP:
            self._free.append(passage)


@dataclass(frozen=True)
class _Strip:
    """Some rows of a parameter, and where they are stored as what kind. `passage`: where the bytes go first, unless
    straight in."""

    path: Path
    start: int
    kind: torch.dtype
    into: Tensor
    passage: Tensor | None

    @property
    def bytes(self) -> int:
        """Its bytes in the file."""
        return self.into.numel() * self.kind.itemsize

    def bring(self) -> _Strip:
        """Read the rows, and make of them what they are computed with."""
        if self.passage is None:
            self._read(self.into.view(-1).view(torch.uint8).numpy().data)
            return self
        stored = self.passage[: self.bytes]
        self._read(stored.numpy().data)
        _convert(stored.view(self.kind), self.into)
        return self

    def _read(self, room: memoryview) -> None:
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start)
            at = 0
            while at < len(room):
                count = file.readinto(room[at:])
                if not count:
                    raise _changed(self.path)
                at += count


def _strips(spans: Mapping[str, Span], made: Mapping[str, Tensor], passages: _Passages) -> Iterator[_Strip]:
    """What to read, in the order in which it lies on disk."""
    for name, span in sorted(spans.items(), key=lambda item: (item[1].path, item[1].start)):
        parameter = made[name] if made[name].dim() else made[name].view(1)
        if not parameter.numel():
            continue
        row = parameter[0].numel() * span.dtype.itemsize
        straight = parameter.device.type == "cpu" and parameter.dtype is span.dtype and parameter.is_contiguous()
        height = max(1, STRIP // row)
        for first in range(0, parameter.shape[0], height):
            rows = parameter[first : first + height]
            passage = None if straight else passages.take(len(rows) * row)
            yield _Strip(span.path, span.start + first * row, span.dtype, rows, passage)


def _brought(strips: Iterator[_Strip]) -> Iterator[_Strip]:
    """The strips once they are there, in order."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="weights") as pool:
        under_way: deque[Future[_Strip]] = deque()
        for strip in strips:
            under_way.append(pool.submit(strip.bring))
            if len(under_way) > AHEAD:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _convert(source: Tensor, into: Tensor) -> None:
    """Copy flat `source` into a parameter's rows, rounded once to nearest even, as torch would in one go.

    Between two kinds of fewer than 32 bits by way of fp32, which loses nothing and which processors have instructions
    for: five times as fast. In pieces of GRAIN numbers, and another order of axes last, where the fewest bytes move.
    """
    if into.device.type != "cpu":
        into.copy_(source.to(into.device).view(into.shape))
        return
    wide = torch.empty(GRAIN)
    by_fp32 = source.dtype is not into.dtype and max(source.dtype.itemsize, into.dtype.itemsize) < 4
    if into.is_contiguous():
        pieces = zip(_split(source, GRAIN), _split(into.view(-1), GRAIN), strict=True)
    else:
        rows = max(1, GRAIN // into[0].numel())
        pieces = zip(_split(source, rows * into[0].numel()), _split(into, rows), strict=True)
    for stored, wanted in pieces:
        piece = stored
        if by_fp32:
            piece = wide[: len(stored)].copy_(stored) if len(stored) <= GRAIN else stored.float()
        if not wanted.is_contiguous():
            piece = piece.to(wanted.dtype)
        wanted.copy_(piece.view(wanted.shape))


def _split(tensor: Tensor, rows: int) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = torch.split(tensor, rows)
    return parts


def _changes(spans: Mapping[str, Span], plot: Plot) -> bool:
    """Whether the parameters differ from the stored bytes, in kind or order."""
    return any(
        span.dtype is not plot.placing.dtype or plot.placing.reorders(plot.shapes[name]) for name, span in spans.items()
    )


def _key(stored: StoredTensors, plan: Plan, plot: Plot) -> str:
    """What names a converted copy: the files as they are now, and all that decides what is made of them."""
    files = []
    for header in stored.headers:
        stat = header.path.stat()
        files.append([header.hash, stat.st_size, stat.st_mtime_ns, stat.st_ino])
    taken = {name: [piece.key, piece.part, piece.parts] for name, piece in plan.items()}
    said = [FORMAT, files, taken, {name: list(shape) for name, shape in plot.shapes.items()}, _words(plot.placing)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _words(placing: Placing) -> list[Any]:
    return [str(placing.dtype), placing.channels_last]


def _changed(path: Path) -> UnreadableFile:
    return UnreadableFile(f"{path} changed while it was read.", "Try again when it is at rest.")


def planned_bytes(stored: StoredTensors, plan: Plan, placing: Placing) -> int:
    """Bytes that the parameters of a plan will take, from the header alone."""
    return sum(math.prod(stored.shape(piece)) for piece in plan.values()) * placing.dtype.itemsize

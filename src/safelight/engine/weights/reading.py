"""Bringing weights in: from their files, or from the converted copy that an earlier reading left.

Bytes go straight to where they stay; what is stored otherwise than it is computed with passes through a small buffer.
Several threads read, so that a cold disk has more than one request to work on.
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
        done = 0
        for strip in _read(_strips(spans, made)):
            if strip.passing is not None:
                _convert(strip.passing, strip.into)
            done += strip.into.nbytes
            self.told(done)


@dataclass(frozen=True)
class _Strip:
    """Some rows of a parameter and their bytes in the file. `passing`: where these go first, unless straight in."""

    path: Path
    start: int
    into: Tensor
    passing: Tensor | None

    def read(self) -> _Strip:
        target = self.into if self.passing is None else self.passing
        room = target.view(-1).view(torch.uint8).numpy().data
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start)
            at = 0
            while at < len(room):
                count = file.readinto(room[at:])
                if not count:
                    raise _changed(self.path)
                at += count
        return self


def _strips(spans: Mapping[str, Span], made: Mapping[str, Tensor]) -> Iterator[_Strip]:
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
            passing = None if straight else torch.empty(rows.numel(), dtype=span.dtype)
            yield _Strip(span.path, span.start + first * row, rows, passing)


def _read(strips: Iterator[_Strip]) -> Iterator[_Strip]:
    """The strips once they are read, in order."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="weights") as pool:
        under_way: deque[Future[_Strip]] = deque()
        for strip in strips:
            under_way.append(pool.submit(strip.read))
            if len(under_way) > AHEAD:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _convert(source: Tensor, into: Tensor) -> None:
    """Copy flat `source` into a parameter's rows, rounded once to nearest even, as torch would in one go.

    Between two kinds of fewer than 32 bits by way of fp32, which loses nothing and which processors have instructions
    for: five times as fast. Another order of axes comes last, when there are fewest bytes to move.
    """
    source = source.to(into.device)
    if source.dtype is not into.dtype and max(source.dtype.itemsize, into.dtype.itemsize) < 4:
        source = source.float()
    if not into.is_contiguous():
        source = source.to(into.dtype)
    into.copy_(source.view(into.shape))


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
    said = [files, taken, {name: list(shape) for name, shape in plot.shapes.items()}, _words(plot.placing)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _words(placing: Placing) -> list[Any]:
    return [str(placing.dtype), placing.channels_last]


def _changed(path: Path) -> UnreadableFile:
    return UnreadableFile(f"{path} changed while it was read.", "Try again when it is at rest.")


def planned_bytes(stored: StoredTensors, plan: Plan, placing: Placing) -> int:
    """Bytes that the parameters of a plan will take, from the header alone."""
    return sum(math.prod(stored.shape(piece)) for piece in plan.values()) * placing.dtype.itemsize

"""Memory for the parameters of a network: one block on the host, or tensors on a device.

On the host every parameter begins at a multiple of 64 bytes: matrix products on other addresses take other paths and
round otherwise, so results would differ between ways of loading.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safelight.engine.residency import memory
from safelight.engine.weights.stored import Shape

ALIGNMENT = 64
"""Bytes. A cache line; the widest vectors of any processor."""


@dataclass(frozen=True)
class Placing:
    """What parameters are made into. `channels_last`: convolutions' weights with channels innermost."""

    dtype: torch.dtype
    device: torch.device
    channels_last: bool = False

    def reorders(self, shape: Shape) -> bool:
        """Whether a parameter of that shape lies in another order than in a file."""
        return self.channels_last and len(shape) == 4 and min(shape[1], shape[2] * shape[3]) > 1


@dataclass(frozen=True)
class Plot:
    """Where each parameter of a network lies in one block of memory."""

    shapes: Mapping[str, Shape]
    placing: Placing

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Bytes from the block's beginning to each parameter's, in the order of `shapes`."""
        found, end = {}, 0
        for name, shape in self.shapes.items():
            found[name] = end
            size = math.prod(shape) * self.placing.dtype.itemsize
            end += -(-size // ALIGNMENT) * ALIGNMENT
        return found

    @cached_property
    def bytes(self) -> int:
        """Bytes of the block."""
        if not self.shapes:
            return 0
        *_, last = self.shapes
        size = math.prod(self.shapes[last]) * self.placing.dtype.itemsize
        return self.offsets[last] + -(-size // ALIGNMENT) * ALIGNMENT

    def block(self) -> Any:
        """A block for the host, of whole pages that no one else is on: it goes back to the system when it is let go,
        and leaves no hole among the memory of passes. MemoryError where the system refuses it."""
        try:
            with memory.capped():
                return np.frombuffer(_private(max(1, self.bytes)), np.uint8, self.bytes)
        except OSError as error:
            raise MemoryError(f"{self.bytes >> 20} MiB for weights: {error}") from error

    def parameters(self, block: Any, start: int = 0) -> dict[str, Tensor]:
        """The parameters in a block: a writable buffer, in which they begin at the byte `start`."""
        return {name: self._parameter(block, start + self.offsets[name], shape) for name, shape in self.shapes.items()}

    def on_device(self) -> dict[str, Tensor]:
        """Uninitialised parameters, each of its own, where the placing says."""
        placing = self.placing
        return {name: torch.empty(shape, dtype=placing.dtype, device=placing.device, memory_format=self._order(shape))
                for name, shape in self.shapes.items()}  # fmt: skip

    def _parameter(self, block: Any, offset: int, shape: Shape) -> Tensor:
        dtype, count = self.placing.dtype, math.prod(shape)
        if not count:
            return torch.empty(shape, dtype=dtype)
        flat = torch.frombuffer(block, dtype=dtype, count=count, offset=offset)
        if self._order(shape) is torch.channels_last:
            rows, channels, *kernel = shape
            return flat.view(rows, *kernel, channels).permute(0, 3, 1, 2)
        return flat.view(shape)

    def _order(self, shape: Shape) -> torch.memory_format:
        last = self.placing.channels_last and len(shape) == 4
        return torch.channels_last if last else torch.contiguous_format


def _private(count: int) -> mmap.mmap:
    """So many bytes of memory that no other process sees."""
    if sys.platform == "win32":
        return mmap.mmap(-1, count)
    return mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

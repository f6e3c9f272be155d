"""Tensors in weights files: mapped, and copied once into memory of our own.

The copy is not waste: tensors in a mapped file do not begin at multiples of 64 bytes, and matrix products on such
memory take other paths and round otherwise, so results would differ between ways of loading.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safelight.catalog.headers import Header, TensorEntry, read_header
from safelight.errors import UnreadableFile

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
"""Stored kinds that are weights as they stand. Others need a scale that belongs to another tensor."""


@dataclass(frozen=True)
class Piece:
    """Where a parameter lies: the tensor `key`, or the `part`-th of `parts` equal shares of its first axis."""

    key: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Placing:
    """What parameters are made into. `channels_last`: convolutions' weights with channels innermost."""

    dtype: torch.dtype
    device: torch.device
    channels_last: bool = False

    def room(self, shape: torch.Size) -> Tensor:
        """An uninitialised parameter. torch's memory on the host begins at multiples of 64 bytes."""
        last = self.channels_last and len(shape) == 4
        order = torch.channels_last if last else torch.contiguous_format
        return torch.empty(shape, dtype=self.dtype, device=self.device, memory_format=order)


class StoredTensors:
    """The tensors of one or more safetensors files, by name. Nothing is read before it is asked for.

    UnreadableFile where a file is broken, is no safetensors file, or two of them hold the same name.
    """

    def __init__(self, headers: Iterable[Header]) -> None:
        self._homes: dict[str, Header] = {}
        self._maps: dict[Path, mmap.mmap] = {}
        for header in headers:
            for name in header.tensors:
                if name in self._homes:
                    raise UnreadableFile(f"{header.path} and {self._homes[name].path} both hold {name}.")
                self._homes[name] = header

    @classmethod
    def of(cls, *paths: Path) -> StoredTensors:
        """The tensors of these files."""
        return cls(read_header(path) for path in paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __contains__(self, name: str) -> bool:
        return name in self._homes

    def entry(self, name: str) -> TensorEntry:
        """The header's line of a tensor."""
        return self._homes[name].tensors[name]

    def shape(self, piece: Piece) -> tuple[int, ...]:
        """The shape of a piece; UnreadableFile where its first axis has no such share."""
        shape = self.entry(piece.key).shape
        if piece.parts == 1:
            return shape
        if not shape or shape[0] % piece.parts:
            raise self._error(piece.key, f"of shape {list(shape)} is not {piece.parts} tensors in one")
        return (shape[0] // piece.parts, *shape[1:])

    def read(self, piece: Piece, into: Tensor) -> Tensor:
        """Copy a piece into a parameter and return that; its kind is converted to the parameter's.

        Its shape may differ from the stored one by axes of length 1 only. UnreadableFile where it is another, or the
        stored kind is no plain number.
        """
        stored, shape = self.shape(piece), into.shape
        if [side for side in stored if side != 1] != [side for side in shape if side != 1]:
            raise self._error(piece.key, f"has the shape {list(stored)} where the network has {list(shape)}")
        source = self._mapped(piece)
        if into.device.type == "cpu" and into.dtype is source.dtype and into.is_contiguous():
            # One thread moves bytes as fast as memory takes them; torch's pool waits for its slowest on a busy host.
            np.copyto(_bytes(into), _bytes(source))
            return into
        return into.copy_(source.view(shape))

    def _mapped(self, piece: Piece) -> Tensor:
        """A piece in the mapped file, flat. The mapping is private: writing to it would not reach the file."""
        header, entry = self._homes[piece.key], self.entry(piece.key)
        dtype = DTYPES.get(entry.dtype)
        if dtype is None:
            raise self._error(piece.key, f"is stored as {entry.dtype}", f"Readable here: {', '.join(DTYPES)}.")
        count = entry.elements // piece.parts
        if not count:
            return torch.empty(0, dtype=dtype)
        start = header.data + entry.start + piece.part * count * dtype.itemsize
        return torch.frombuffer(self._map(header), dtype=dtype, count=count, offset=start)

    def _map(self, header: Header) -> mmap.mmap:
        known = self._maps.get(header.path)
        if known is None:
            with header.path.open("rb") as file:
                known = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            if len(known) != header.size:
                raise UnreadableFile(f"{header.path} changed while it was read.", "Try again when it is at rest.")
            self._maps[header.path] = known
        return known

    def _error(self, key: str, what: str, hint: str = "") -> UnreadableFile:
        return UnreadableFile(f"{self._homes[key].path}: the tensor {key} {what}.", hint)


def _bytes(tensor: Tensor) -> Any:
    """A contiguous tensor's memory as bytes."""
    return tensor.view(-1).view(torch.uint8).numpy()

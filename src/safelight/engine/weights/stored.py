"""Tensors in weights files: which there are, what shape they have, and where their bytes lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

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

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """Where a parameter lies: the tensor `key`, or the `part`-th of `parts` equal shares of its first axis."""

    key: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Span:
    """The bytes of a piece: from `start` on (bytes of the file `path`), of that kind, in rows of C order."""

    path: Path
    start: int
    dtype: torch.dtype


class StoredTensors:
    """The tensors of one or more safetensors files, by name. Nothing but headers is read here.

    UnreadableFile where a file is broken, is no safetensors file, or two of them hold the same name.
    """

    def __init__(self, headers: Iterable[Header]) -> None:
        self.headers = tuple(headers)
        self._homes: dict[str, Header] = {}
        for header in self.headers:
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

    def shape(self, piece: Piece) -> Shape:
        """The shape of a piece; UnreadableFile where its first axis has no such share."""
        shape = self.entry(piece.key).shape
        if piece.parts == 1:
            return shape
        if not shape or shape[0] % piece.parts:
            raise self._error(piece.key, f"of shape {list(shape)} is not {piece.parts} tensors in one")
        return (shape[0] // piece.parts, *shape[1:])

    def span(self, piece: Piece, wanted: Shape) -> Span:
        """Where the bytes of a piece lie, for a parameter of the shape `wanted`.

        That may differ from the stored shape by axes of length 1 only. UnreadableFile where it is another, or the
        stored kind is no plain number.
        """
        stored = self.shape(piece)
        if [side for side in stored if side != 1] != [side for side in wanted if side != 1]:
            raise self._error(piece.key, f"has the shape {list(stored)} where the network has {list(wanted)}")
        header, entry = self._homes[piece.key], self.entry(piece.key)
        dtype = DTYPES.get(entry.dtype)
        if dtype is None:
            raise self._error(piece.key, f"is stored as {entry.dtype}", f"Readable here: {', '.join(DTYPES)}.")
        share = entry.elements // piece.parts * dtype.itemsize
        return Span(header.path, header.data + entry.start + piece.part * share, dtype)

    def _error(self, key: str, what: str, hint: str = "") -> UnreadableFile:
        return UnreadableFile(f"{self._homes[key].path}: the tensor {key} {what}.", hint)

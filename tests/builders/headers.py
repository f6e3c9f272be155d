"""Safetensors files by hand: real-size ones that take no disk, and broken ones."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from safelight.catalog.headers import BITS


def header_of(
    shapes: Mapping[str, Sequence[int]], dtype: str = "F16", metadata: Mapping[str, str] | None = None
) -> bytes:
    """The header of a file with these tensors, one after another."""
    place, said = 0, {"__metadata__": dict(metadata)} if metadata else {}
    for name, shape in shapes.items():
        end = place + math.prod(shape) * BITS[dtype] // 8
        said[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    return json.dumps(said).encode()


def write_sparse(path: Path, header: bytes, size: int | None = None) -> Path:
    """A file with that header and a hole where its tensors would be (`size` bytes of it, or what the header says)."""
    said = json.loads(header)
    said.pop("__metadata__", None)
    data = max((line["data_offsets"][1] for line in said.values()), default=0) if size is None else size
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + data)
    return path

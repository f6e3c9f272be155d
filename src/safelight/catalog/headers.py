"""Headers of safetensors files, read within bounds: nothing the file says is believed before it was counted.

The format: 8 bytes (little-endian length), that many bytes of JSON (`name -> dtype, shape, data_offsets`, and
`__metadata__`), then the tensors without a gap. https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.errors import UnreadableFile

LONGEST_HEADER = 32 << 20
"""Bytes of JSON we are ready to read. The largest real ones (embedded tokenizers, training tags) have a few million."""

BITS: Mapping[str, int] = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of an element of each kind that the format knows."""

_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive, most likely a PyTorch pickle (.ckpt, .pt)"),
    (b"\x80", "a Python pickle (.ckpt, .pt)"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a Git LFS pointer; the weights themselves were never downloaded"),
    (b"<", "a web page, as a download that needs a login saves one"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x89PNG", "a PNG picture"),
    (b"\x08", "an ONNX file"),
)
_WAY_OUT = "Only safetensors files are read; save the model as safetensors, or download it in that format."
_PICKLE = (
    "A pickle can run any program when it is opened, so it is never read here. Download the safetensors file of the "
    "model, or convert it on a machine you can lose."
)
_AGAIN = "Download it again, or check the disk."


@dataclass(frozen=True)
class TensorEntry:
    """A tensor in a file. `start`, `end`: bytes counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself. `hash`: SHA-256 of the header's bytes; `data`: where tensors begin."""

    path: Path
    size: int
    hash: str
    data: int
    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]

    def bytes_by_dtype(self) -> dict[str, int]:
        """Bytes of each stored kind, most first."""
        total: dict[str, int] = {}
        for tensor in self.tensors.values():
            total[tensor.dtype] = total.get(tensor.dtype, 0) + tensor.end - tensor.start
        return dict(sorted(total.items(), key=lambda item: -item[1]))


def read_header(path: Path) -> Header:
    """The checked header of a safetensors file.

    UnreadableFile where it is missing, cut short, contradicts itself, or is another kind of file: the message says
    what it is, the hint the way out. Reads no more than the header.
    """
    if path.exists() and not path.is_file():
        raise UnreadableFile(f"{path} is not a file.", "Name the weights file itself.")
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = _length(path, size, file.read(32))
            file.seek(8)
            raw = file.read(length)
    except OSError as error:
        raise UnreadableFile(
            f"{path} cannot be read: {error.strerror}.", "Check that it exists and its rights."
        ) from error
    if len(raw) != length:
        raise UnreadableFile(f"{path} ends inside its header: {len(raw)} of {length} bytes.", _AGAIN)
    said = _parse(path, raw)
    metadata = said.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UnreadableFile(f"{path} is damaged: its metadata is not a table of texts.", _AGAIN)
    tensors = {name: _entry(path, name, value) for name, value in said.items()}
    _cover(path, tensors, size - 8 - length)
    return Header(path, size, hashlib.sha256(raw).hexdigest(), 8 + length, tensors, metadata)


def _length(path: Path, size: int, first: bytes) -> int:
    """The header's length, if this can be a safetensors file of `size` bytes at all."""
    if size == 0:
        raise UnreadableFile(f"{path} is empty (0 bytes).", _AGAIN)
    # JSON follows the eight bytes, so anything else there is no safetensors file, whatever the first bytes spell.
    if first[8:9] == b"{":
        length: int = struct.unpack("<Q", first[:8])[0]
        if length > LONGEST_HEADER:
            raise UnreadableFile(
                f"{path} claims a header of {length:,} bytes; up to {LONGEST_HEADER:,} are read.", _AGAIN
            )
        if length > size - 8:
            raise UnreadableFile(f"{path} is cut short: a header of {length:,} bytes in a file of {size:,}.", _AGAIN)
        return length
    for begin, what in _FOREIGN:
        if first.startswith(begin):
            raise UnreadableFile(f"{path} is {what}.", _PICKLE if "pickle" in what else _WAY_OUT)
    if not any(first):
        raise UnreadableFile(f"{path} begins with zeros: a download that was never finished.", _AGAIN)
    if size < 10:
        raise UnreadableFile(f"{path} is too short to be a weights file ({size} bytes).", _AGAIN)
    raise UnreadableFile(f"{path} is not a safetensors file (it begins with {first[:8].hex(' ')}).", _WAY_OUT)


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise ValueError("a name occurs twice")
        return table

    try:
        said = json.loads(raw, object_pairs_hook=without_repetition)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"{path} is damaged: its header is not valid JSON ({error}).", _AGAIN) from error
    if not isinstance(said, dict):
        raise UnreadableFile(f"{path} is damaged: its header is not a JSON object.", _AGAIN)
    return said


def _entry(path: Path, name: str, value: Any) -> TensorEntry:
    """One line of the header; the bytes it claims must be those of its shape."""
    if not isinstance(value, dict) or not _whole(value.get("shape")) or not _whole(value.get("data_offsets")):
        raise UnreadableFile(f"{path} is damaged: the entry of the tensor {name!r} is not one.", _AGAIN)
    dtype, shape, offsets = value.get("dtype"), value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise UnreadableFile(
            f"{path}: the tensor {name!r} is of kind {dtype!r}, which is not known.", f"Known: {', '.join(BITS)}."
        )
    bits = math.prod(shape) * BITS[dtype]
    if len(offsets) != 2 or bits % 8 or offsets[1] - offsets[0] != bits // 8:
        raise UnreadableFile(
            f"{path} is damaged: the tensor {name!r} of {dtype} {shape} takes {bits / 8:,.0f} bytes, but lies at "
            f"{offsets}.",
            _AGAIN,
        )
    return TensorEntry(dtype, tuple(shape), offsets[0], offsets[1])


def _whole(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(number) is int and number >= 0 for number in numbers)


def _cover(path: Path, tensors: Mapping[str, TensorEntry], size: int) -> None:
    """The tensors must fill the rest of the file, without gap or overlap."""
    place = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != place:
            how = "overlaps the one before" if tensor.start < place else "leaves a gap before it"
            raise UnreadableFile(
                f"{path} is damaged: the tensor {name!r} {how} (at {tensor.start}, not {place}).", _AGAIN
            )
        place = tensor.end
    if place > size:
        raise UnreadableFile(f"{path} is cut short: {size:,} of {place:,} bytes of tensors are there.", _AGAIN)
    if place < size:
        raise UnreadableFile(f"{path} has {size - place:,} bytes after its last tensor.", _AGAIN)

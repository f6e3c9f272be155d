"""Converted copies of weights: parameters as they are computed with, kept so that the next loading maps them.

A copy is a safetensors file, named by what it was made from. It is never written to once it has its name, so workers
map it and share its pages; a removal takes it away from nobody who has it mapped.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import shutil
import struct
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safelight.catalog.headers import Header, read_header
from safelight.engine.weights.room import ALIGNMENT, Plot
from safelight.engine.weights.stored import DTYPES
from safelight.errors import UnreadableFile

log = logging.getLogger(__name__)

_STORED = {dtype: name for name, dtype in DTYPES.items()}
_PAD = "safelight.pad."
_PIECE = 8 << 20
_QUIET_S = 3.0
"""Copies are written this long after the last conversion, so as not to slow down the next component's."""

SPARE = 2 << 30
"""Bytes of the disk that copies leave to what cannot be made again: no copy is written beyond, and old ones go."""

_ABANDONED_S = 3600.0
"""A half-written file that nobody has written to for so long belongs to a process that is gone."""


class ConvertedWeights:
    """The copies in `folder`, of at most `limit` bytes together; those that were used longest ago go first, also
    where less than `spare` bytes of the disk are free.

    Writing goes on in the background and holds nothing in memory: of parameters that are let go before they are
    written no copy is kept. One that cannot be kept is told in the log and costs nothing but the next conversion.
    """

    def __init__(self, folder: Path, limit: int, spare: int = SPARE) -> None:
        self._folder = folder
        self._limit = limit
        self._spare = spare
        self._lock = threading.Lock()
        self._waiting: deque[_Unwritten] = deque()
        self._writer: threading.Thread | None = None
        self._given_at = 0.0
        self._hurry = threading.Event()

    def find(self, key: str, plot: Plot) -> dict[str, Tensor] | None:
        """The parameters of the copy named `key`, mapped; None where there is none. One that is damaged is removed."""
        path = self._path(key, plot)
        try:
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
            header = read_header(path)
            if why := _wrong(header, key, plot):
                raise UnreadableFile(f"{path} {why}.")
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            if len(mapped) != header.size:
                raise UnreadableFile(f"{path} has changed its size.")
        except FileNotFoundError:
            return None
        except (UnreadableFile, ValueError) as error:
            log.warning("A converted copy of weights is made again: %s", error)
            _remove(path)
            return None
        except OSError as error:  # its rights, or no memory to map it
            log.warning("A converted copy of weights cannot be used: %s", error)
            return None
        return plot.parameters(mapped, header.data)

    def keep(self, key: str, plot: Plot, block: Any) -> None:
        """Write a block of parameters in the background while it is in use, and remove older copies where it grows too
        many. `block`: an array that the parameters keep alive."""
        if plot.bytes > self._limit:
            return
        with self._lock:
            self._given_at = time.monotonic()
            self._waiting.append(_Unwritten(key, plot, weakref.ref(block)))
            if self._writer is None or not self._writer.is_alive():
                # A daemon: whoever ends the process need not wait for a copy that can be made again.
                self._writer = threading.Thread(target=self._write_all, name="converted-weights", daemon=True)
                self._writer.start()

    def settle(self) -> None:
        """Write at once, and return when everything given so far is written."""
        self._hurry.set()
        if (writer := self._writer) is not None:
            writer.join()
        self._hurry.clear()

    def spare_disk(self, wanted: int = 0) -> bool:
        """Remove what was used longest ago until `wanted` bytes can be written and the spare ones stay free. Whether
        they do."""
        while shutil.disk_usage(self._folder).free < wanted + self._spare:
            copies = self._copies()
            if not copies:
                return False
            if not _remove(copies[0]):
                return False
        return True

    def _path(self, key: str, plot: Plot) -> Path:
        return self._folder / f"{key[:32]}.{_STORED[plot.placing.dtype].lower()}.safetensors"

    def _write_all(self) -> None:
        """What waits, one after another, until nothing does."""
        while True:
            while (left := self._given_at + _QUIET_S - time.monotonic()) > 0 and not self._hurry.wait(left):
                continue
            with self._lock:
                if not self._waiting:
                    self._writer = None
                    return
                unwritten = self._waiting.popleft()
            if unwritten.block() is not None:
                self._write(unwritten)

    def _write(self, unwritten: _Unwritten) -> None:
        path = self._path(unwritten.key, unwritten.plot)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._make_room(unwritten.plot.bytes):
                log.warning(
                    "A converted copy of weights is not kept: less than %d MiB would be free.", self._spare >> 20
                )
            elif unwritten.write(partial):
                os.utime(partial, ns=(time.time_ns(), _seal(unwritten.key)))
                partial.replace(path)
        except OSError as error:
            log.warning("A converted copy of weights could not be kept: %s", error)
        finally:
            _remove(partial)

    def _copies(self) -> list[Path]:
        """All copies, those that were used longest ago first."""
        return sorted(self._folder.glob("*.safetensors"), key=lambda path: path.stat().st_atime_ns)

    def _make_room(self, wanted: int) -> bool:
        """Remove what was used longest ago until `wanted` bytes more fit, and what others left half-written. Whether
        they do."""
        now = time.time()
        for left in self._folder.glob(".*.partial"):
            if now - left.stat().st_mtime > _ABANDONED_S:
                _remove(left)
        copies = self._copies()
        total = sum(path.stat().st_size for path in copies)
        for path in copies:
            if total + wanted <= self._limit:
                break
            total -= path.stat().st_size
            _remove(path)
        return self.spare_disk(wanted)


@dataclass(frozen=True)
class _Unwritten:
    """A block that no copy is kept of yet, as long as somebody else has it: no byte of it stays for the copy's sake."""

    key: str
    plot: Plot
    block: weakref.ref[Any]

    def write(self, path: Path) -> bool:
        """On disk, synced. False where the block was let go before the end."""
        with path.open("wb", buffering=0) as file:
            _write_whole(file, memoryview(_header(self.key, self.plot)))
            for at in range(0, self.plot.bytes, _PIECE):
                if (block := self.block()) is None:
                    return False
                _write_whole(file, memoryview(block)[at : at + _PIECE])
                del block
            os.fsync(file.fileno())
        return True


def _header(key: str, plot: Plot) -> bytes:
    """The header of a copy, padded so that the data after it is aligned; gaps between parameters are tensors too."""
    kind, size = _STORED[plot.placing.dtype], plot.placing.dtype.itemsize
    said: dict[str, Any] = {"__metadata__": {"safelight.converted": key}}
    for number, (name, shape) in enumerate(plot.shapes.items()):
        begin = plot.offsets[name]
        end = begin + torch.Size(shape).numel() * size
        said[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
        if gap := -end % ALIGNMENT:
            said[f"{_PAD}{number}"] = {"dtype": "U8", "shape": [gap], "data_offsets": [end, end + gap]}
    text = json.dumps(said, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _write_whole(file: FileIO, part: memoryview) -> None:
    while part:
        part = part[file.write(part) :]


def _seal(key: str) -> int:
    """The time of change that a copy is given, in nanoseconds: whoever writes to it later breaks it.

    Even seconds, which every file system can hold.
    """
    return (1_000_000_000 + 2 * int(key[:7], 16)) * 1_000_000_000


def _wrong(header: Header, key: str, plot: Plot) -> str:
    """Why a copy is not the one meant, or nothing."""
    if header.metadata.get("safelight.converted") != key:
        return "was made from other files"
    if header.path.stat().st_mtime_ns != _seal(key):
        return "was written to"
    if header.data % ALIGNMENT or header.size - header.data != plot.bytes:
        return "is laid out otherwise"
    if any(name not in header.tensors or header.tensors[name].start != plot.offsets[name] for name in plot.shapes):
        return "holds other parameters"
    return ""


def _remove(path: Path) -> bool:
    """Whether it is gone."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # Windows keeps a file that somebody has mapped
        log.info("%s cannot be removed yet: %s", path, error)
        return False
    return True

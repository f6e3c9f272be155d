"""Looking through folders for weights: what is there, what it is, and what it is called."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from safelight.catalog.declarations import sidecars
from safelight.catalog.fingerprint import Identity, identify, identify_folder, is_adapter
from safelight.catalog.folders import INDEX, Folder
from safelight.catalog.hashes import FileHashes
from safelight.catalog.headers import read_header
from safelight.catalog.pins import pin
from safelight.core.families import BUILT_IN, FamilySpec
from safelight.core.files import FileRef
from safelight.errors import UnreadableFile

SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".gguf")
"""Files that are looked at. Those that are never read are listed with the reason."""

_RIGHTS = "Check its rights."

Kind = Literal["checkpoint", "lora", "unreadable"]
Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Entry:
    """One file or diffusers folder that was found.

    `name`: what it is asked for by; `place`: its path in the folder that was scanned, with extension; `identity` of a
    checkpoint; `problem`, `hint`: why it cannot be used, or empty; `bytes` on disk.
    """

    name: str
    place: str
    kind: Kind
    path: Path
    bytes: int
    ref: FileRef | None = None
    identity: Identity | None = None
    problem: str = ""
    hint: str = ""


@dataclass(frozen=True)
class _Found:
    """A path to look at, what a change of it would change, and why it cannot be looked at (or empty)."""

    place: str
    path: Path
    signature: Signature
    problem: str = ""


class Scanner:
    """Looks through folders; what has not changed since the last look is not read again. Safe between threads.

    `folders`: asked at each look.

    Earlier folders win where two have a file of the same place and name, or one lies in the other. A checkpoint, a
    LoRA and a file of neither kind are told apart by their headers, wherever they lie.
    """

    def __init__(
        self,
        folders: Callable[[], Sequence[Path]],
        families: Iterable[FamilySpec] = BUILT_IN,
        hashes: FileHashes | None = None,
    ) -> None:
        self._named_folders = folders
        self._families = tuple(families)
        self._hashes = hashes
        self._lock = threading.Lock()
        self._examined: dict[Path, tuple[_Found, Entry]] = {}

    def folders(self) -> tuple[Path, ...]:
        """The folders as they are named now, absolute, without `..`, and once each."""
        named = (os.path.normpath(folder.expanduser().absolute()) for folder in self._named_folders())
        return tuple(Path(each) for each in dict.fromkeys(named))

    def entries(self) -> list[Entry]:
        """Everything there is now, named. A file that cannot be read is an entry with its problem."""
        with self._lock:
            found = self._found()
            before, self._examined = self._examined, {}
            for each in found:
                known = before.get(each.path)
                entry = known[1] if known and known[0] == each else self._examine(each)
                self._examined[each.path] = (each, entry)
            return self._named(found)

    def _found(self) -> list[_Found]:
        """Every path once; of two with the same place the earlier folder's."""
        places: set[str] = set()
        paths: set[Path] = set()
        kept = []
        for folder in self.folders():
            here = [each for each in _walk(folder) if each.path not in paths and each.place not in places]
            paths.update(each.path for each in here)
            places.update(each.place for each in here)
            kept += here
        return kept

    def _examine(self, found: _Found) -> Entry:
        """Read a header or a folder's configurations."""
        size = sum(line[1] for line in found.signature)
        if found.problem:
            return Entry("", found.place, "unreadable", found.path, size, problem=found.problem, hint=_RIGHTS)
        try:
            folder = found.path.is_dir()
            header = None if folder else read_header(found.path)
            if header is not None and is_adapter(header):
                return Entry("", found.place, "lora", found.path, size, pin("", found.path))
            identity = (
                identify_folder(Folder(found.path), self._families)
                if header is None
                else identify(header, self._families)
            )
            return Entry("", found.place, "checkpoint", found.path, size, pin("", found.path), identity)
        except UnreadableFile as error:
            return Entry("", found.place, "unreadable", found.path, size, problem=error.message, hint=error.hint)
        except OSError as error:
            return Entry(
                "", found.place, "unreadable", found.path, size, problem=_problem(error, found.path), hint=_RIGHTS
            )

    def _named(self, found: Sequence[_Found]) -> list[Entry]:
        """Give each entry the shortest name that means it alone."""
        entries = [self._examined[each.path][1] for each in found]
        shorts = Counter((_loras(entry), short(entry).casefold()) for entry in entries)
        bares = Counter((_loras(entry), bare(entry).casefold()) for entry in entries)
        named = []
        for entry in entries:
            name = entry.place
            if shorts[_loras(entry), short(entry).casefold()] == 1:
                name = short(entry)
            elif bares[_loras(entry), bare(entry).casefold()] == 1:
                name = bare(entry)
            named.append(self._with_name(entry, name))
        return named

    def _with_name(self, entry: Entry, name: str) -> Entry:
        ref = entry.ref
        if ref is not None:
            sha256 = self._hashes.known(Path(ref.path)) if self._hashes else ""
            ref = ref.model_copy(update={"name": name, "sha256": sha256})
        return Entry(
            name, entry.place, entry.kind, entry.path, entry.bytes, ref, entry.identity, entry.problem, entry.hint
        )


def _loras(entry: Entry) -> bool:
    """LoRAs and models are asked for in different fields, so they do not take each other's names."""
    return entry.kind == "lora"


def bare(entry: Entry) -> str:
    """The place without extension; a folder has none."""
    suffix = entry.path.suffix
    return entry.place.removesuffix(suffix) if suffix.lower() in SUFFIXES else entry.place


def short(entry: Entry) -> str:
    """The last part of the place, without extension."""
    return bare(entry).rpartition("/")[2]


def _walk(folder: Path) -> list[_Found]:
    """Every weights file and diffusers folder below a folder, in the order of their names; hidden ones are not seen.

    Links are followed; a circle of them is walked once. What the system refuses to show is found with its problem, and
    what lies beside it as ever.
    """
    found: list[_Found] = []
    entered: set[tuple[int, int]] = set()

    def enter(here: Path, place: str) -> None:
        stat = here.stat()
        if (stat.st_dev, stat.st_ino) in entered:
            return
        entered.add((stat.st_dev, stat.st_ino))
        inside = sorted(os.scandir(here), key=lambda each: each.name)
        if place and any(each.name == INDEX for each in inside):
            found.append(_Found(place, here, _signature([*Folder(here).files(), *sidecars(here)])))
            return
        for each in inside:
            if not each.name.startswith("."):
                below = f"{place}/{each.name}" if place else each.name
                attempt(partial(look, each, below), Path(each.path), below)

    def look(each: os.DirEntry[str], place: str) -> None:
        path = Path(each.path)
        if each.is_dir():
            enter(path, place)
        elif path.suffix.lower() in SUFFIXES and each.is_file():
            found.append(_Found(place, path, _signature([path, *sidecars(path)])))

    def attempt(act: Callable[[], None], path: Path, place: str) -> None:
        try:
            act()
        except FileNotFoundError:  # not there, or gone since its folder was listed
            return
        except OSError as error:
            found.append(_Found(place or path.name, path, (), _problem(error, path)))

    attempt(partial(enter, folder, ""), folder, "")
    return found


def _problem(error: OSError, path: Path) -> str:
    return f"{error.filename or path} cannot be read: {error.strerror}."


def _signature(paths: Iterable[Path]) -> Signature:
    """Path, size, time of change and inode of each file that exists."""
    lines = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue
        lines.append((path.name, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(lines)

"""The models and LoRAs on disk, by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from pathlib import Path

from safelight.catalog.entries import ModelEntry
from safelight.catalog.folders import INDEX
from safelight.catalog.hashes import FileHashes
from safelight.catalog.scan import Entry, Kind, Scanner, bare, short
from safelight.core.families import BUILT_IN, FamilySpec
from safelight.core.files import FileRef
from safelight.core.names import nearest, one_of
from safelight.errors import InvalidRequest, InvalidValue

DEFAULT_MODEL = "postcards"
"""The model that ships with the package."""


def bundled_folders() -> tuple[Path, ...]:
    """The folders with the model and LoRAs that ship with the package."""
    data = Path(str(files("safelight"))) / "data"
    return data / "models", data / "loras"


class FolderCatalog:
    """Models and LoRAs of some folders and of the package, found anew at each look.

    A look walks the folders and reads the headers of what is new or changed only. The user's folders come before the
    package's, so a file of the same name there is the one meant. `named`: asked at each look for further folders of
    theirs. `hashes`: where the SHA-256 of whole files come from; a file that is asked for is queued there.
    """

    def __init__(
        self,
        folders: Sequence[Path] = (),
        default: str = DEFAULT_MODEL,
        *,
        families: Iterable[FamilySpec] = BUILT_IN,
        hashes: FileHashes | None = None,
        bundled: bool = True,
        named: Callable[[], Sequence[Path]] = tuple,
    ) -> None:
        self.default = default
        self._hashes = hashes
        self._given: dict[str, FileRef] = {}
        shipped = bundled_folders() if bundled else ()
        self._scanner = Scanner(lambda: (*folders, *named(), *shipped), families, hashes)

    def entries(self) -> list[Entry]:
        """Every file there is, usable or not: what `models list` shows."""
        return self._scanner.entries()

    def models(self) -> list[ModelEntry]:
        """The usable checkpoints."""
        return [_model(entry) for entry in self.entries() if entry.kind == "checkpoint"]

    def loras(self) -> list[FileRef]:
        """The usable LoRAs."""
        return [_ref(entry) for entry in self.entries() if entry.kind == "lora"]

    def model(self, name: str | None, path: str = "model") -> ModelEntry:
        """The checkpoint of that name (None: the default); InvalidRequest at `path` with the nearest names."""
        found = self._find(self.default if name is None else name, "checkpoint", path)
        self._want(found)
        for called in (found.name, found.place, str(found.path)):
            self._given[_wanted(called)] = _ref(found)
        return _model(found)

    def given(self, name: str) -> FileRef | None:
        """The checkpoint that `model` last gave for this name or path, though its file may be gone or another now."""
        return self._given.get(_wanted(str(_absolute(name) or name)))

    def lora(self, name: str, path: str = "loras") -> FileRef:
        """The LoRA of that name; InvalidRequest at `path` with the nearest names."""
        found = self._find(name, "lora", path)
        self._want(found)
        return _ref(found)

    def _find(self, name: str, kind: Kind, path: str) -> Entry:
        place = _absolute(name)
        if place is None:
            return find(self.entries(), name, kind, path)
        if not any(place.is_relative_to(folder) for folder in self._scanner.folders()):
            said = f"{name!r} lies outside the model folders"
            hint = "Add its folder with `safelight models add-folder`, or copy it in with `safelight models import`."
            raise InvalidRequest(InvalidValue(path, said, hint))
        entries = self.entries()
        there = next((entry for entry in entries if entry.path == place), None)
        return find(entries, name if there is None else there.place, kind, path)

    def _want(self, entry: Entry) -> None:
        if self._hashes is not None and not entry.path.is_dir():
            self._hashes.want(entry.path)


def _absolute(name: str) -> Path | None:
    """The file or folder that an absolute path names, or None for a name; of a model_index.json its folder."""
    place = Path(name).expanduser() if name.startswith("~") else Path(name)
    if not place.is_absolute():
        return None
    place = Path(os.path.normpath(place))  # before it is compared: `..` must not lead out of a folder
    return place.parent if place.name == INDEX else place


def _wanted(name: str) -> str:
    """A name as names are compared."""
    return name.replace("\\", "/").strip("/").casefold()


def find(entries: Sequence[Entry], name: str, kind: Kind, path: str) -> Entry:
    """The usable entry that `name` means: by name, by place, with or without extension, without regard to case.

    InvalidRequest at `path`: the nearest names, the candidates of an ambiguous name, or the problem of a bad file.
    """
    wanted = _wanted(name)
    usable = [entry for entry in entries if entry.kind == kind]
    for candidates in (usable, [entry for entry in entries if entry.kind == "unreadable"]):
        for key in (lambda entry: entry.place, bare, lambda entry: entry.path.name, short):
            met = [entry for entry in candidates if key(entry).casefold() == wanted]
            if len(met) > 1:
                named = one_of(entry.name for entry in met)
                raise InvalidRequest(InvalidValue(path, f"{name!r} may be {named}", "Name one of them."))
            if met and met[0].problem:
                raise InvalidRequest(InvalidValue(path, met[0].problem, met[0].hint))
            if met:
                return met[0]
    label = {"checkpoint": "model", "lora": "LoRA"}.get(kind, kind)
    known = [entry.name for entry in usable]
    near = nearest(wanted, known)
    hint = f"Did you mean {one_of(repr(each) for each in near)}? " if near else ""
    hint += f"Known: {one_of(known, 20)}." if known else f"There is no {label} at all yet."
    raise InvalidRequest(InvalidValue(path, f"there is no {label} {name!r}", hint))


def _ref(entry: Entry) -> FileRef:
    if entry.ref is None:
        raise ValueError(f"{entry.path} was never pinned: {entry.problem}")
    return entry.ref


def _model(entry: Entry) -> ModelEntry:
    if entry.identity is None:
        raise ValueError(f"{entry.path} was never identified: {entry.problem}")
    said = entry.identity.declared
    return ModelEntry(
        ref=_ref(entry),
        family=entry.identity.family,
        prediction=said.prediction,
        zero_terminal_snr=said.zero_terminal_snr,
        defaults=dict(said.defaults),
        title=said.title,
        license=said.license,
        notes=said.notes,
        text_layers=entry.identity.text_layers,
    )

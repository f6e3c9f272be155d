"""Diffusers folders: a model_index.json, and a folder for each component with its configuration and weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safelight.catalog.headers import Header, read_header
from safelight.errors import UnreadableFile

INDEX = "model_index.json"
_LARGEST_CONFIG = 16 << 20
_REFUSED = (".bin", ".ckpt", ".pt", ".pth", ".msgpack")


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON object from disk; UnreadableFile otherwise."""
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise UnreadableFile(f"{path} is larger than a configuration ({path.stat().st_size:,} bytes).")
        said = json.loads(path.read_bytes())
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}.", "The folder is not whole.") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"{path} is not valid JSON: {error}.", "Download it again.") from error
    if not isinstance(said, dict):
        raise UnreadableFile(f"{path} is not a JSON object.", "Download it again.")
    return said


@dataclass(frozen=True)
class Folder:
    """A diffusers folder. `path`: the folder, absolute."""

    path: Path

    @cached_property
    def index(self) -> dict[str, Any]:
        """Its model_index.json."""
        return read_json(self.path / INDEX)

    @property
    def pipeline(self) -> str:
        """The class of the pipeline that wrote it."""
        return str(self.index.get("_class_name", ""))

    def config(self, component: str) -> dict[str, Any]:
        """A component's configuration, {} where the folder has no such component."""
        for name in ("config.json", "scheduler_config.json"):
            if (self.path / component / name).is_file():
                return read_json(self.path / component / name)
        return {}

    def weights(self, component: str) -> list[Path]:
        """The safetensors files of a component: the plain one, else its only variant (fp16), else its shards.

        UnreadableFile where there is none; the message says what lies there.
        """
        place = self.path / component
        found = sorted(place.glob("*.safetensors")) if place.is_dir() else []
        plain = [file for file in found if file.name in ("diffusion_pytorch_model.safetensors", "model.safetensors")]
        if plain:
            return plain[:1]
        variants: dict[str, list[Path]] = {}
        for file in found:
            variants.setdefault(file.name.partition("-0")[0].removesuffix(".safetensors"), []).append(file)
        if len(variants) == 1:
            return next(iter(variants.values()))
        names = [file.name for file in sorted(place.iterdir())] if place.is_dir() else []
        seen = f"It holds {', '.join(names)}." if names else "There is no such folder."
        refused = any(name.endswith(_REFUSED) for name in names)
        hint = "Pickled weights are never read; save the folder with safe_serialization." if refused else "Complete it."
        raise UnreadableFile(f"{place} has no weights that can be read, or several variants. {seen}", hint)

    def headers(self, component: str) -> list[Header]:
        """The checked headers of a component's files."""
        return [read_header(file) for file in self.weights(component)]

    def files(self) -> Iterator[Path]:
        """Every configuration and weights file of the folder, in a fixed order."""
        for place in (self.path, *sorted(each for each in self.path.iterdir() if each.is_dir())):
            yield from sorted(file for file in place.iterdir() if file.suffix in (".json", ".txt", ".safetensors"))

    def hash(self) -> str:
        """SHA-256 over the configurations, and the header, size and time of each weights file."""
        total = hashlib.sha256()
        for file in self.files():
            total.update(f"{file.relative_to(self.path).as_posix()}\0".encode())
            if file.suffix == ".safetensors":
                stat = file.stat()
                total.update(f"{read_header(file).hash}:{stat.st_size}:{stat.st_mtime_ns}\0".encode())
            else:
                total.update(hashlib.sha256(file.read_bytes()).digest())
        return total.hexdigest()

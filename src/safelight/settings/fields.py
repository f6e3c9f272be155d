"""One setting: its type, default and limits, and how a value from a file or a line of text is read."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import math
import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["bool", "int", "float", "text", "choice", "folder", "folders", "modules", "networks"]

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Setting:
    """A line of the table.

    `minimum` and `maximum` are inclusive. `zero`: what 0 means where it stands for something else than a number (it
    is then allowed beside the limits). `pattern` with `form` (its meaning in words) belongs to texts, `choices` to
    choices. `default` may be a function where it depends on the machine; `shown` is then the default in words.
    """

    section: str
    name: str
    kind: Kind
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    zero: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""
    form: str = ""
    shown: str = ""

    @property
    def key(self) -> str:
        """`section.name`, as `--set` and messages have it."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"SAFELIGHT_{self.section}_{self.name}".upper()

    def default_here(self) -> Any:
        """The default on this machine."""
        return self.default() if callable(self.default) else self.default

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        if self.kind in ("int", "float"):
            kind = "a whole number" if self.kind == "int" else "a number"
            limits = f" from {self.minimum:g}" if self.minimum is not None else ""
            limits += f" to {self.maximum:.12g}" if self.maximum is not None else ""
            return f"{kind}{limits}" + (f", or 0 ({self.zero})" if self.zero else "")
        if self.kind == "choice":
            return f"one of {', '.join(self.choices)}"
        words = {"bool": "true or false", "folder": "a folder", "folders": "a list of folders", "text": "a text"}
        words |= {"modules": "a list of modules such as package.module", "networks": "a list of networks such as "
                  "192.168.1.0/24 or fd00::/8"}  # fmt: skip
        return self.form or words[self.kind]

    @property
    def default_text(self) -> str:
        """The default as it is written in the file."""
        return self.shown or toml_value(self.default)

    def read(self, value: object, beside: Path) -> Any:
        """The value in the setting's type; ValueError where it is not allowed.

        4.0 is a whole number and true is no number. Folders are made absolute: `~` is the home folder, and what is
        relative is meant from the folder `beside`.
        """
        if self.kind in ("int", "float"):
            return self._number(value)
        if self.kind == "bool" and isinstance(value, bool):
            return value
        if self.kind == "folder" and isinstance(value, str) and value:
            return _folder(value, beside)
        if self.kind == "folders" and isinstance(value, list) and all(isinstance(each, str) and each for each in value):
            return tuple(_folder(each, beside) for each in value)
        if self.kind == "modules" and isinstance(value, list) and all(_is_module(each) for each in value):
            return tuple(value)
        if self.kind == "networks" and isinstance(value, list) and all(isinstance(each, str) for each in value):
            return tuple(ipaddress.ip_network(each, strict=False) for each in value)
        if self.kind == "choice" and isinstance(value, str) and value in self.choices:
            return value
        if self.kind == "text" and isinstance(value, str) and re.fullmatch(self.pattern or r".+", value):
            return value
        raise ValueError(self.allowed)

    def read_text(self, text: str, beside: Path) -> Any:
        """The value that a variable or `--set` says; ValueError where it is not allowed.

        Folders are separated as in PATH, modules and networks by commas; or written as a list in TOML.
        """
        if self.kind in ("int", "float"):
            return self.read(int(text) if re.fullmatch(r"\s*[+-]?\d+\s*", text) else float(text), beside)
        if self.kind == "bool":
            return self.read(_WORDS.get(text.strip().lower()), beside)
        if self.kind == "folders":
            listed = text.lstrip().startswith("[")
            folders = tomllib.loads(f"folders = {text}")["folders"] if listed else text.split(os.pathsep)
            return self.read(folders if listed else [each for each in folders if each], beside)
        if self.kind in ("modules", "networks"):
            listed = text.lstrip().startswith("[")
            named = tomllib.loads(f"named = {text}")["named"] if listed else text.replace(" ", "").split(",")
            return self.read([each for each in named if each != ""], beside)
        return self.read(text, beside)

    def _number(self, value: object) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(self.allowed)
        if self.kind == "int" and value != int(value):
            raise ValueError(self.allowed)
        below = self.minimum is not None and value < self.minimum
        above = self.maximum is not None and value > self.maximum
        if (below or above) and not (self.zero and value == 0):
            raise ValueError(self.allowed)
        return int(value) if self.kind == "int" else float(value)


def _is_module(value: object) -> bool:
    return isinstance(value, str) and all(part.isidentifier() for part in value.split("."))


def setting(
    default: Any,
    help: str,
    *,
    limits: tuple[float | None, float | None] = (None, None),
    zero: str = "",
    text: tuple[str, str] = ("", ""),
    shown: str = "",
) -> Any:
    """A field of a section's dataclass. `text`: (pattern, its meaning); a callable default is called when needed.

    The field's annotation gives the kind; see `table.setting_table`.
    """
    metadata = {
        "help": help,
        "minimum": limits[0],
        "maximum": limits[1],
        "zero": zero,
        "pattern": text[0],
        "form": text[1],
        "shown": shown,
    }
    if callable(default):
        factory: Callable[[], Any] = default
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def toml_value(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(each) for each in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else json.dumps(str(value), ensure_ascii=False)


def _folder(text: str, beside: Path) -> Path:
    return Path(os.path.normpath(beside / Path(text).expanduser()))

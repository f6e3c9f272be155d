"""Which line of a TOML file gives a setting: the parser of the standard library does not say."""

from __future__ import annotations

import re

_TABLE = re.compile(r"^\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?$")
_KEY = re.compile(r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


def lines_of(text: str) -> dict[str, int]:
    """The line, from 1, of every table (`section`) and every key (`section.name`) of a TOML text."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if opened := _TABLE.match(line):
            table = _dotted(opened[1])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            name = _dotted(key[1])
            found.setdefault(f"{table}.{name}" if table else name, number)
    return found


def line_of(key: str, lines: dict[str, int]) -> int:
    """The line of `key`, or of the nearest table above it (an inline table stands on one line); 0 if unknown."""
    while key and key not in lines:
        key = key.rpartition(".")[0]
    return lines.get(key, 0)


def _dotted(name: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in name.split("."))

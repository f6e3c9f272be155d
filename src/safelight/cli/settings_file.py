"""Changing a setting in a settings file: its comments and the rest stay as they are."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from safelight.settings.fields import toml_value
from safelight.settings.lines import lines_of


def in_file(file: Path, section: str, name: str) -> Any:
    """The value that the file gives a setting, or None."""
    content = tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
    return content.get(section, {}).get(name)


def write(file: Path, section: str, values: dict[str, tuple[str, ...]]) -> None:
    """Give the settings of `section` in `file`, whole or not at all; the file is made where there is none."""
    text = file.read_text("utf-8") if file.is_file() else ""
    for name, value in values.items():
        text = changed(text, section, name, toml_value(value))
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".toml.new")
    temporary.write_text(text, "utf-8", newline="\n")
    temporary.replace(file)


def changed(text: str, section: str, name: str, value: str) -> str:
    """A TOML text in which `[section] name` is `value` (as TOML writes it).

    ClickException where the file gives it in a form that cannot be changed in place (an inline table).
    """
    before = tomllib.loads(text)
    wanted = {**before, section: {**before.get(section, {}), name: tomllib.loads(f"v = {value}")["v"]}}
    lines = text.splitlines()
    places = lines_of(text)
    key, line = f"{section}.{name}", f"{name} = {value}"
    if key in places:
        start = places[key] - 1
        lines[start : start + _height(lines[start:])] = [lines[start].partition("=")[0] + f"= {value}"]
    elif section in places and lines[places[section] - 1].lstrip().startswith("["):
        lines.insert(places[section], line)
    else:
        lines += [*([""] if lines else []), f"[{section}]", line]
    made = "\n".join(lines) + "\n"
    with suppress(tomllib.TOMLDecodeError):
        if tomllib.loads(made) == wanted:
            return made
    raise click.ClickException(
        f"[{section}] {name} is written in a form that is not changed here; write by hand: {line}"
    )


def _height(lines: list[str]) -> int:
    """How many lines the value takes that begins on the first."""
    for count in range(1, len(lines) + 1):
        try:
            tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        return count
    return 1

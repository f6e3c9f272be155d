"""Lists for people: columns as wide as they must be."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click


def columns(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their names, aligned; nothing is cut."""
    table = [list(names), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in table) for at in range(len(names))]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def document(content: Any) -> None:
    """Print a JSON document."""
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))


def facts(named: Mapping[str, object]) -> None:
    """Print one thing's facts, a line each; what is empty is left out."""
    shown = {name: value for name, value in named.items() if value not in (None, "", [], {}, ())}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        said = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
        click.echo(f"{name.ljust(width)}  {said}")


def clock(seconds: float | None) -> str:
    """A time for people, in this machine's zone; empty where there is none."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def size(count: int) -> str:
    """Bytes for people."""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def short(text: str, width: int = 48) -> str:
    """One line of a text, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 3]}..."

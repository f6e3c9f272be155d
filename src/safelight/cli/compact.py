"""Compact forms: how what is an object in JSON is written as one option's value. BadParameter where it is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")
_WORDS: Mapping[str, bool] = {"true": True, "false": False}


@dataclass(frozen=True)
class Form:
    """How one kind of value is written. `metavar`: for the help."""

    metavar: str
    read: Callable[[str], Any]


def scalar(text: str) -> bool | int | float | str:
    """`true`, `8`, `0.5` as what they look like; anything else is a text."""
    word = text.strip()
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def pair(text: str) -> tuple[str, Any]:
    """`eta=0.5` as ("eta", 0.5)."""
    name, equals, given = text.partition("=")
    if not equals or not name.strip():
        raise click.BadParameter(f"{text!r} is not NAME=VALUE, such as eta=0.5.")
    return name.strip(), scalar(given)


def lora(text: str) -> dict[str, Any]:
    """`ink:0.8` as {name, strength, text_strength}, without what is not said. A name may hold colons itself."""
    parts = text.split(":")
    numbers: list[float] = []
    while len(parts) > 1 and len(numbers) < 2 and _NUMBER.fullmatch(parts[-1].strip()):
        numbers.insert(0, float(parts.pop()))
    name = ":".join(parts).strip()
    if not name or name.endswith(":"):
        raise click.BadParameter(f"{text!r} is not {LORA.metavar}, such as ink:0.8.")
    return {"name": name, **dict(zip(("strength", "text_strength"), numbers, strict=False))}


def guidance(text: str) -> dict[str, Any]:
    """`rescale:amount=0.7` as {kind, and its parameters}."""
    kind, _, rest = text.partition(":")
    if not kind.strip():
        raise click.BadParameter(f"{text!r} is not {GUIDANCE.metavar}, such as rescale:amount=0.7.")
    return {"kind": kind.strip(), **dict(pair(each) for each in rest.split(",") if each.strip())}


PAIR = Form("NAME=VALUE", pair)
LORA = Form("NAME[:STRENGTH[:TEXT_STRENGTH]]", lora)
GUIDANCE = Form("KIND[:NAME=VALUE,...]", guidance)

FORMS: Mapping[str, Form] = {"LoraUse": LORA, "GuidanceChoice": GUIDANCE}
"""The form of each group of fields that operations hold in lists, by the name of its model."""

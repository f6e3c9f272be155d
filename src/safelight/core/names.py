"""Names and ids: making, checking, and finding the nearest one that exists."""

from __future__ import annotations

import difflib
import importlib
import re
import secrets
import time
from collections.abc import Iterable
from typing import Any

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""What a client may choose as a job's id: it names files and URLs."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id() -> str:
    """A fresh id of 26 characters that sorts by creation time (ULID: 48 bits of milliseconds, 80 random bits)."""
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    letters = []
    for _ in range(26):
        number, digit = divmod(number, 32)
        letters.append(_ALPHABET[digit])
    return "".join(reversed(letters))


def is_id(text: str) -> bool:
    """Whether `text` may be a job's id."""
    return re.fullmatch(ID_PATTERN, text) is not None


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The names most like `name`, best first; empty where nothing is like it."""
    by_fold = {each.casefold(): each for each in known}
    found = difflib.get_close_matches(name.casefold(), by_fold, n=count, cutoff=0.5)
    return [by_fold[each] for each in found]


def one_of(known: Iterable[str], limit: int = 12) -> str:
    """A list of allowed names for an error message, cut where it would be long."""
    names = list(known)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def attribute(path: str) -> Any:
    """What "module:attribute" names. Tables of code are strings so that reading them imports nothing."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)

"""What artifacts are searched by: the words of a prompt in a form in which spelling variants meet."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

SEARCHED_FIELDS = ("prompt", "instruction")
"""Fields of a resolved request that say what is in the picture."""


def folded(text: str) -> str:
    """Without case, in Unicode's compatibility form (NFKC), white space as single blanks."""
    plain = unicodedata.normalize("NFKC", text.replace("\0", " ")).casefold()
    return " ".join(plain.encode("utf-8", "replace").decode().split())


def searched_words(resolved: Mapping[str, Any]) -> str:
    """What of a resolved request is searched for words."""
    return folded(" ".join(str(resolved[name]) for name in SEARCHED_FIELDS if resolved.get(name)))


def searched_model(resolved: Mapping[str, Any]) -> str:
    """The name of the model that a resolved request uses, folded; empty where it uses none."""
    model = resolved.get("model")
    return folded(str(model.get("name", ""))) if isinstance(model, Mapping) else ""


def wanted_words(text: str) -> list[str]:
    """The words of a search: each must stand somewhere in what is searched, in any order, also inside a word."""
    return folded(text).split()

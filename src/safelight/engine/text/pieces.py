"""What a parser makes of a prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Piece(NamedTuple):
    """A stretch of text with one weight; or, where `ends_chunk`, no text but the end of the chunk that is open."""

    text: str
    weight: float = 1.0
    ends_chunk: bool = False


BREAK = Piece("", 1.0, ends_chunk=True)
"""Fills the open chunk up with padding: what follows is encoded apart from what came before."""

Parser = Callable[[str], list[Piece]]
"""Pieces of a prompt in reading order, none of them empty but `BREAK`. Never raises: any string is a prompt."""

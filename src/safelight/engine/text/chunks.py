"""Cutting a prompt into the chunks that a text encoder takes, by A1111's documented rules ("Infinite prompt length").

Pieces are tokenised one by one. A chunk that runs full is closed; words after its last comma move on to the next chunk
if they are no more than `WORD_WRAP` tokens (A1111's setting "Prompt word wrap length limit"), so that a phrase is not
torn apart. `BREAK` closes a chunk that is not full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from safelight.engine.text.pieces import Piece

WORD_WRAP = 20
"""Most tokens that move on to the next chunk."""


class Tokens(Protocol):
    """What the cutting needs of a `TextEncoder`; its properties are described there."""

    @property
    def chunk_length(self) -> int:
        """Tokens of a chunk, begin and end included."""
        ...

    @property
    def begin(self) -> int:
        """Token id that opens a chunk."""
        ...

    @property
    def end(self) -> int:
        """Token id that closes a chunk."""
        ...

    @property
    def padding(self) -> int:
        """Token id that fills a chunk up."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a piece of text, without begin and end."""
        ...


class Chunk(NamedTuple):
    """Token ids and their weights, `chunk_length` of each: begin, words, end, padding."""

    tokens: list[int]
    weights: list[float]


Words = list[tuple[int, float]]


def cut(pieces: Sequence[Piece], encoder: Tokens, word_wrap: int = WORD_WRAP) -> list[Chunk]:
    """The chunks of a prompt, at least one: no words at all give a chunk of padding."""
    return [_filled(words, encoder) for words in _cut_words(pieces, encoder, word_wrap)]


def _cut_words(pieces: Sequence[Piece], encoder: Tokens, word_wrap: int) -> list[Words]:
    room = encoder.chunk_length - 2
    comma = encoder.tokenize(",")
    done: list[Words] = []
    words: Words = []
    last_comma: int | None = None
    for piece in pieces:
        if piece.ends_chunk:
            done.append(words)
            words, last_comma = [], None
            continue
        for token in encoder.tokenize(piece.text):
            if len(words) == room:
                wraps = [token] != comma and last_comma is not None and room - last_comma <= word_wrap
                place = last_comma + 1 if wraps and last_comma is not None else room
                done.append(words[:place])
                words, last_comma = words[place:], None
            if [token] == comma:
                last_comma = len(words)
            words.append((token, piece.weight))
    return [*done, words] if words or not done else done


def _filled(words: Words, encoder: Tokens) -> Chunk:
    padding = encoder.chunk_length - 2 - len(words)
    tokens = [encoder.begin, *(token for token, _ in words), encoder.end, *[encoder.padding] * padding]
    return Chunk(tokens, [1.0, *(weight for _, weight in words), 1.0, *[1.0] * padding])

"""A1111's way of weighting a prompt, as its wiki documents it ("Attention/emphasis", "Infinite prompt length").

`(word)` multiplies the weight by 1.1 and `[word]` divides it; `(word:1.3)` multiplies by the number; brackets nest and
may overlap. `\\(`, `\\)`, `\\[`, `\\]` and `\\\\` are plain characters, any other backslash is dropped. A bracket that
is never closed holds to the end; one that was never opened is text, and so is a weight that is no number. `BREAK` ends
the chunk, inside brackets too (where A1111 itself encodes the word with a negative weight, which nobody means).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from safelight.engine.text.pieces import BREAK, Piece

STRONGER = 1.1
"""What a pair of round brackets multiplies by, and a pair of square ones divides by."""

STRONGEST = 1000.0
"""No weight is further from 0, however deep brackets nest: beyond, states would end as infinities in half precision."""

_SIGNS = re.compile(
    r"""
    \\(?P<escaped>[()\[\]\\])              # a bracket or backslash that is meant
    | \\                                   # any other backslash is dropped
    | (?P<opened>[(\[])
    | (?P<weighted>:\s*(?P<number>[+-]?[.\d]+)\s*)\)
    | (?P<closed>[)\]])
    | (?P<text>[^\\()\[\]:]+|:)
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\bBREAK\b")
_OPENER = {")": "(", "]": "["}
_FACTOR = {"(": STRONGER, "[": 1 / STRONGER}


@dataclass(slots=True)
class _Pair:
    """A pair of brackets: the parts from `start` to before `end` weigh `factor` times as much."""

    start: int
    end: int = 0
    factor: float = 1.0


class _Reading:
    """What was said so far, None standing for `BREAK`; and of either kind all pairs of brackets, as they were opened,
    and those that are still open."""

    def __init__(self) -> None:
        self.said: list[str | None] = []
        self.pairs: dict[str, list[_Pair]] = {"(": [], "[": []}
        self.opened: dict[str, list[_Pair]] = {"(": [], "[": []}

    def say(self, text: str) -> None:
        """Add text, with a `BREAK` in place of that word and the space around it."""
        first, *others = _BREAK.split(text)
        for part in others:
            self.said += [first.rstrip(), None]
            first = part.lstrip()
        self.said.append(first)

    def open(self, bracket: str) -> None:
        """Open a pair of brackets here."""
        pair = _Pair(len(self.said))
        self.pairs[bracket].append(pair)
        self.opened[bracket].append(pair)

    def close(self, bracket: str, factor: float) -> None:
        """All that was said since that bracket was last opened weighs `factor` times as much."""
        pair = self.opened[bracket].pop()
        pair.end, pair.factor = len(self.said), factor

    def weights(self, bracket: str) -> Iterator[float]:
        """For each part, what the brackets of one kind make of it. These nest, though the two kinds may overlap: so
        one walk with a stack of products finds every weight."""
        around = [(len(self.said), 1.0)]
        coming = iter(self.pairs[bracket])
        pair = next(coming, None)
        for place in range(len(self.said)):
            while around[-1][0] <= place:
                around.pop()
            while pair is not None and pair.start == place:
                if pair.end > place:
                    around.append((pair.end, _held(around[-1][1] * pair.factor)))
                pair = next(coming, None)
            yield around[-1][1]

    def pieces(self) -> list[Piece]:
        """Neighbours of equal weight in one piece; nothing empty but `BREAK`."""
        weighed = zip(self.said, self.weights("("), self.weights("["), strict=True)
        parts = [(part, _held(round * square)) for part, round, square in weighed if part != ""]
        pieces: list[Piece] = []
        for (ends, weight), group in groupby(parts, key=lambda part: (part[0] is None, part[1])):
            texts = [text or "" for text, _ in group]
            pieces += [BREAK] * len(texts) if ends else [Piece("".join(texts), weight)]
        return pieces

    def take(self, sign: re.Match[str]) -> None:
        """Read on by one sign."""
        kind, text = sign.lastgroup, sign[0]
        if kind == "opened":
            self.open(text)
        elif kind == "closed" and self.opened[_OPENER[text]]:
            self.close(_OPENER[text], _FACTOR[_OPENER[text]])
        elif kind == "weighted" and self.opened["("]:
            factor = _number(sign["number"])
            if factor is None:
                self.say(sign["weighted"])
            self.close("(", STRONGER if factor is None else factor)
        elif kind == "escaped":
            self.say(sign["escaped"])
        elif kind is not None:  # any other backslash is dropped
            self.say(text)


def parse(prompt: str) -> list[Piece]:
    """The pieces of a prompt in reading order. Takes as long as the prompt is long, whatever stands in it."""
    reading = _Reading()
    for sign in _SIGNS.finditer(prompt):
        reading.take(sign)
    for bracket, opened in reading.opened.items():
        while opened:
            reading.close(bracket, _FACTOR[bracket])
    return reading.pieces()


def _held(weight: float) -> float:
    return max(-STRONGEST, min(STRONGEST, weight))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:  # such as 1.2.3, which the grammar lets through
        return None
    return number if math.isfinite(number) else None

"""A1111's way of weighting a prompt, as its wiki documents it ("Attention/emphasis", "Infinite prompt length").

`(word)` multiplies the weight by 1.1 and `[word]` divides it; `(word:1.3)` multiplies by the number; brackets nest and
may overlap. `\\(`, `\\)`, `\\[`, `\\]` and `\\\\` are plain characters, any other backslash is dropped. A bracket that
is never closed holds to the end; one that was never opened is text, and so is a weight that is no number. `BREAK` ends
the chunk, inside brackets too (where A1111 itself encodes the word with a negative weight, which nobody means).
"""

from __future__ import annotations

import math
import re

from safelight.engine.text.pieces import BREAK, Piece

STRONGER = 1.1
"""What a pair of round brackets multiplies by, and a pair of square ones divides by."""

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
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_OPENER = {")": "(", "]": "["}
_FACTOR = {"(": STRONGER, "[": 1 / STRONGER}


class _Reading:
    """What was said so far, with its weights, and where brackets were opened. None stands for `BREAK`."""

    def __init__(self) -> None:
        self.said: list[str | None] = []
        self.weights: list[float] = []
        self.opened: dict[str, list[int]] = {"(": [], "[": []}

    def say(self, text: str) -> None:
        """Add text, with a `BREAK` wherever that word stands in it."""
        for number, part in enumerate(_BREAK.split(text)):
            self.said += [None, part] if number else [part]
        self.weights += [1.0] * (len(self.said) - len(self.weights))

    def close(self, bracket: str, factor: float) -> None:
        """Multiply the weight of all that was said since that bracket was last opened."""
        start = self.opened[bracket].pop()
        self.weights[start:] = [weight * factor for weight in self.weights[start:]]

    def pieces(self) -> list[Piece]:
        """Neighbours of equal weight in one piece; nothing empty but `BREAK`."""
        joined: list[Piece] = []
        for part, weight in zip(self.said, self.weights, strict=True):
            if part is None:
                joined.append(BREAK)
            elif part and joined and not joined[-1].ends_chunk and joined[-1].weight == weight:
                joined[-1] = Piece(joined[-1].text + part, weight)
            elif part:
                joined.append(Piece(part, weight))
        return joined

    def take(self, sign: re.Match[str]) -> None:
        """Read on by one sign."""
        opened, closed, weighted = sign["opened"], sign["closed"], sign["weighted"]
        if opened:
            self.opened[opened].append(len(self.said))
        elif closed and self.opened[_OPENER[closed]]:
            self.close(_OPENER[closed], _FACTOR[_OPENER[closed]])
        elif weighted and self.opened["("]:
            factor = _number(sign["number"])
            if factor is None:
                self.say(weighted)
            self.close("(", STRONGER if factor is None else factor)
        elif sign["escaped"]:
            self.say(sign["escaped"])
        elif sign[0] != "\\":
            self.say(sign[0])


def parse(prompt: str) -> list[Piece]:
    """The pieces of a prompt in reading order."""
    reading = _Reading()
    for sign in _SIGNS.finditer(prompt):
        reading.take(sign)
    for bracket, places in reading.opened.items():
        while places:
            reading.close(bracket, _FACTOR[bracket])
    return reading.pieces()


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:  # such as 1.2.3, which the grammar lets through
        return None
    return number if math.isfinite(number) else None

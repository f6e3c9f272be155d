"""A text encoder whose results can be worked out on paper: a token a word, states from the token and its place."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

BEGIN, END, COMMA, FIRST_WORD = 1, 2, 3, 10


class WordEncoder:
    """A token for each word and comma; the states of a chunk depend on its tokens alone."""

    def __init__(self, chunk_length: int, padding: int = END) -> None:
        self.chunk_length, self.padding = chunk_length, padding
        self.begin, self.end, self.bytes = BEGIN, END, 0
        self.module = nn.Identity()
        self.vocabulary: dict[str, int] = {",": COMMA}
        self.calls: list[Tensor] = []

    def tokenize(self, text: str) -> list[int]:
        words = re.findall(r",|[^\s,]+", text)
        return [self.vocabulary.setdefault(word, FIRST_WORD + len(self.vocabulary)) for word in words]

    def encode(self, chunks: Tensor, clip_skip: int) -> tuple[Tensor, Tensor | None]:
        self.calls.append(chunks)
        generator = torch.Generator().manual_seed(clip_skip)
        table = torch.randn(1000, 6, generator=generator) + 0.5
        places = torch.randn(self.chunk_length, 6, generator=generator)
        states = table[chunks] + places
        return states, states.amax(dim=1)

    def words(self, tokens: list[int]) -> list[str]:
        """Tokens as words: `<` begin, `>` end or padding."""
        names = {token: word for word, token in self.vocabulary.items()} | {BEGIN: "<", END: ">", self.padding: ">"}
        return [names[token] for token in tokens]

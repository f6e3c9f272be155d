"""From a prompt to conditionings: parse, cut into chunks, encode, weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from safelight.core.names import attribute
from safelight.core.parsers import ParserRecord
from safelight.engine.conditioning import Conditioning, Span, Timeline
from safelight.engine.families.family import TextEncoder
from safelight.engine.text.chunks import cut
from safelight.engine.text.pieces import Parser

RESOLVED_MEAN = 1e-4
"""A mean below this share of the mean magnitude is rounding, not scale (an encoder whose final norm has no bias)."""


def parser_of(record: ParserRecord) -> Parser:
    """The parser's function."""
    return cast(Parser, attribute(record.code))


def encode_prompt(encoder: TextEncoder, prompt: str, parser: Parser, clip_skip: int) -> Timeline:
    """What a prompt says: one span for all sigmas.

    Its sequence is [chunks * chunk_length, width], the chunks one after another; pooled is the first chunk's,
    unweighted. Without weights the states are exactly the encoder's. Tokens are handed to it on the CPU.
    """
    chunks = cut(parser(prompt), encoder)
    states, pooled = encoder.encode(torch.tensor([chunk.tokens for chunk in chunks], dtype=torch.int64), clip_skip)
    states = emphasise(states, [chunk.weights for chunk in chunks])
    return (Span(Conditioning(states.flatten(0, 1), None if pooled is None else pooled[0])),)


def emphasise(states: Tensor, weights: Sequence[Sequence[float]]) -> Tensor:
    """States [chunks, tokens, width] times the weight of each token, every chunk brought back to the mean it had.

    This is what A1111's emphasis mode "Original" does: z * weights, then z * (mean before / mean after), where a mean
    is over all that it encodes in one call, which for one prompt is one chunk. (With several different prompts in a
    batch it takes the mean over the chunks of equal number of all of them; a picture here does not depend on its
    neighbours.) A chunk whose weights are all 1 is left untouched, to the bit.
    """
    if all(weight == 1.0 for row in weights for weight in row):
        return states
    return torch.stack([_emphasised(chunk, row) for chunk, row in zip(states, weights, strict=True)])


def _emphasised(chunk: Tensor, row: Sequence[float]) -> Tensor:
    if all(weight == 1.0 for weight in row):
        return chunk
    weighted = chunk * torch.tensor(row, dtype=chunk.dtype, device=chunk.device)[:, None]
    before, after = float(chunk.mean()), float(weighted.mean())
    resolved = abs(before) > RESOLVED_MEAN * float(chunk.abs().mean())
    if not resolved or before * after <= 0 or abs(after) <= RESOLVED_MEAN * float(weighted.abs().mean()):
        return weighted
    return weighted * (before / after)

"""What is said of a picture: encoded prompts, and when along the walk each of them holds."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """An encoded prompt.

    sequence: [tokens, width], tokens a multiple of the encoder's chunk length. pooled: [width] or None.
    """

    sequence: Tensor
    pooled: Tensor | None = None


@dataclass(frozen=True)
class Span:
    """A conditioning that holds for sigmas in (`until`, `since`], with a weight against the others of that time.

    `region`: a mask [1, h, w] of the latent where it holds, or None for everywhere.
    """

    conditioning: Conditioning
    since: float = float("inf")
    until: float = -1.0
    weight: float = 1.0
    region: Tensor | None = None


Timeline = tuple[Span, ...]
"""What a prompt says, along sigma: scheduling, AND and regions are data here, not code in the loop."""


def at(timeline: Timeline, sigma: float) -> list[Span]:
    """The spans that hold at `sigma`."""
    return [span for span in timeline if span.until < sigma <= span.since]

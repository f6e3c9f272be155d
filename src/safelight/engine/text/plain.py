"""Prompts without syntax."""

from __future__ import annotations

from safelight.engine.text.pieces import Piece


def parse(prompt: str) -> list[Piece]:
    """The whole prompt as one piece of weight 1."""
    return [Piece(prompt)] if prompt else []

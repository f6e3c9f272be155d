"""EncodeText: a prompt becomes a timeline of conditionings."""

from __future__ import annotations

import torch

from safelight.core.events import EventKind
from safelight.core.stages import EncodeText
from safelight.engine.results import Said
from safelight.engine.text.encode import encode_prompt, parser_of
from safelight.engine.work import PIECE, Desk, Notice, Work


def encode_text(stage: EncodeText, desk: Desk) -> Work:
    """Parse, chunk, encode and weigh the prompt. Result: Said."""
    parser = parser_of(desk.tables.parsers.get(stage.parser))
    with desk.bench.text(stage.encoder) as lent:
        for warning in lent.warnings:
            yield Notice(EventKind.WARNING, {"message": warning})
        with torch.inference_mode():
            timeline = encode_prompt(lent, stage.prompt, parser, stage.clip_skip)
    yield PIECE
    return Said(timeline)

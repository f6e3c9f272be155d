"""EncodeText: a prompt becomes a timeline of conditionings."""

from __future__ import annotations

from collections.abc import Generator

import torch

from safelight.core.events import EventKind
from safelight.core.stages import EncodeText
from safelight.engine.conditioning import Timeline
from safelight.engine.results import Said
from safelight.engine.text.encode import encode_prompt, parser_of
from safelight.engine.work import PIECE, Desk, Notice, Piece, Work
from safelight.placement.plan import Form, Need


def encode_text(stage: EncodeText, desk: Desk) -> Work:
    """Parse, chunk, encode and weigh the prompt, unless that was done lately. Result: Said."""
    if (kept := desk.bench.prompts.find(stage)) is not None:
        said, warnings = kept
        for warning in warnings:
            yield Notice(EventKind.WARNING, {"message": warning})
        return said
    parser = parser_of(desk.tables.parsers.get(stage.parser))
    with desk.bench.text(stage.encoder) as lent:
        for warning in lent.warnings:
            yield Notice(EventKind.WARNING, {"message": warning})
        working, key = desk.bench.working, (lent.key, "text", "")
        taken = working.peaks.expect(key, 1, 0)
        form = Form("", taken.bytes, 1, taken.known, taken.least)
        need = Need(f"Encoding a prompt with {stage.encoder.model.name}", (form,), uses=(lent.key,))

        @torch.inference_mode()
        def encode() -> Timeline:
            return encode_prompt(lent, stage.prompt, parser, stage.clip_skip)

        def in_form(form: Form) -> Generator[Piece, None, Timeline]:
            timeline = working.run(key, 1, encode)
            yield PIECE
            return timeline

        said = Said((yield from working.descend(need, in_form)))
        desk.bench.prompts.keep(stage, said, lent.warnings)
        return said

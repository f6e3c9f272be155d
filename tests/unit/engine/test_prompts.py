"""Encoded prompts that are kept: by all that decides them, and no more than fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.acceptance.studio import Studio

from safelight.core.files import FileRef
from safelight.core.stages import AdapterUse, EncodeText, NetworkUse
from safelight.engine.conditioning import Conditioning, Span
from safelight.engine.residency.prompts import Prompts
from safelight.engine.results import Said

MODEL = FileRef(name="one", path="/one", size=1, mtime_ns=1, inode=1, header_hash="aa")
LORA = FileRef(name="ink", path="/ink", size=2, mtime_ns=1, inode=2, header_hash="bb")
STAGE = EncodeText(NetworkUse(MODEL, "sd1", (AdapterUse(LORA, 0.5),)), "a house", "a1111", 1)


def said(tokens: int = 77) -> Said:
    return Said((Span(Conditioning(torch.zeros(tokens, 4))),))


OTHERS = [
    replace(STAGE, prompt="a tree"),
    replace(STAGE, clip_skip=2),
    replace(STAGE, parser="plain"),
    replace(STAGE, encoder=NetworkUse(MODEL, "sd2", STAGE.encoder.adapters)),
    replace(STAGE, encoder=NetworkUse(MODEL.model_copy(update={"mtime_ns": 2}), "sd1", STAGE.encoder.adapters)),
    replace(STAGE, encoder=NetworkUse(MODEL, "sd1", (AdapterUse(LORA, 0.6),))),
    replace(STAGE, encoder=NetworkUse(MODEL, "sd1")),
]


@pytest.mark.parametrize("other", OTHERS)
def test_only_the_same_stage_is_answered(other: EncodeText) -> None:
    prompts, kept = Prompts(), said()
    prompts.keep(STAGE, kept, ("left out",))
    assert prompts.find(STAGE) == (kept, ("left out",))
    assert prompts.find(other) is None


def test_another_number_of_threads_is_another_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = Prompts()
    prompts.keep(STAGE, said(), ())
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    assert prompts.find(STAGE) is None


def test_the_longest_unused_goes_first_and_nothing_larger_than_all_is_kept() -> None:
    one = said().timeline[0].conditioning.sequence.nbytes
    prompts = Prompts(2 * one)
    first, second, third = (replace(STAGE, prompt=each) for each in ("1", "2", "3"))
    prompts.keep(first, said(), ())
    prompts.keep(second, said(), ())
    assert prompts.find(first) is not None
    prompts.keep(third, said(), ())
    assert prompts.find(second) is None and prompts.find(first) is not None
    prompts.keep(replace(STAGE, prompt="long"), said(3 * 77), ())
    assert prompts.bytes == 2 * one
    prompts.clear()
    assert prompts.find(third) is None and prompts.bytes == 0


def test_the_picture_is_the_same_and_the_encoder_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studio = Studio(tmp_path)
    body = {"width": 64, "height": 64, "steps": 2, "seed": 4, "prompt": "a red house", "negative_prompt": "fog"}
    first = studio.draw("first", **body)
    monkeypatch.setattr(studio.loop.bench, "text", lambda use: pytest.fail("the encoder was asked for again"))
    assert np.array_equal(studio.draw("again", **body), first)
    studio.loop.stop()

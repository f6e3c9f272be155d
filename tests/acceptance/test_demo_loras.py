"""The two adapters that ship change the demo model's pictures as they were trained to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from .studio import Studio

SCENE = "a red house in the centre on green hills under a clear blue sky with a sun"
DRAWN: dict[str, Any] = {"prompt": SCENE, "steps": 12, "seed": 4, "guidance_scale": 5, "deterministic": True}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    torch.set_num_threads(1)
    made = Studio(tmp_path_factory.mktemp("loras"))
    yield made
    made.loop.stop()


@pytest.fixture(scope="module")
def plain(studio: Studio) -> np.ndarray[Any, Any]:
    return studio.draw("plain", **DRAWN)


def colourfulness(picture: np.ndarray[Any, Any]) -> float:
    """How far the colours' blue-yellow axis spreads: a sepia print has one hue."""
    return float((picture[..., 2] - picture[..., 0]).std())


def test_the_sepia_print_takes_the_colours_away(studio: Studio, plain: np.ndarray[Any, Any]) -> None:
    sepia = studio.draw("sepia", **{**DRAWN, "prompt": f"sepia print of {SCENE}"}, loras=[{"name": "sepia"}])
    assert colourfulness(sepia) < colourfulness(plain) * 0.5
    assert sepia[..., 0].mean() > sepia[..., 2].mean() + 10, "brownish: more red than blue"


def test_half_the_strength_lies_between(studio: Studio, plain: np.ndarray[Any, Any]) -> None:
    body = {**DRAWN, "prompt": f"sepia print of {SCENE}"}
    full = studio.draw("full", **body, loras=[{"name": "sepia"}])
    half = studio.draw("half", **body, loras=[{"name": "sepia", "strength": 0.5}])
    none = studio.draw("none", **body, loras=[{"name": "sepia", "strength": 0.0}])
    without = studio.draw("without", **body)
    assert colourfulness(full) < colourfulness(half) < colourfulness(without)
    assert np.array_equal(none, without), "weight 0 is the base picture to the bit"


def test_without_it_the_base_is_untouched(studio: Studio, plain: np.ndarray[Any, Any]) -> None:
    studio.draw("snowman", **{**DRAWN, "prompt": "a snowman on snowy mountains"}, loras=[{"name": "snowman"}])
    assert np.array_equal(plain, studio.draw("again", **DRAWN))

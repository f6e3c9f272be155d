"""Tiles cover everything once, and leave no seam."""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from safelight.engine.tiles import spans, tiled


def whole(tiles: Generator[None, None, Tensor]) -> tuple[Tensor, int]:
    count = 0
    try:
        while True:
            next(tiles)
            count += 1
    except StopIteration as stop:
        return stop.value, count


@given(st.integers(1, 400), st.integers(2, 100), st.data())
def test_spans_cover_and_overlap(length: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    found = list(spans(length, tile, overlap))
    assert found[0][0] == 0 and found[-1][1] == length
    assert all(end - start == min(tile, length) for start, end in found)
    assert all(before[1] - after[0] >= overlap for before, after in pairwise(found))


@pytest.mark.parametrize(
    ("turn", "ratio"),
    [
        (lambda part: interpolate(part, scale_factor=4, mode="nearest"), (4, 1)),
        (lambda part: avg_pool2d(part, 4), (1, 4)),
    ],
)
def test_a_local_operation_in_tiles_is_the_whole(turn: Callable[[Tensor], Tensor], ratio: tuple[int, int]) -> None:
    picture = torch.randn(3, 96, 64, generator=torch.Generator().manual_seed(0))
    got, count = whole(tiled(picture, turn, 32, 8, ratio))
    assert count > 1
    torch.testing.assert_close(got, turn(picture[None])[0])


def test_tiles_that_disagree_fade_into_each_other() -> None:
    """Each tile shifts its level; the steps between neighbouring pixels stay below a 255th of the range."""
    levels = iter(torch.linspace(0, 0.1, 100))
    flat = torch.zeros(1, 512, 512)
    got, _ = whole(tiled(flat, lambda part: part + next(levels), 256, 64, (1, 1)))
    assert float(got[:, 1:].sub(got[:, :-1]).abs().max()) < 1 / 255
    assert float(got[:, :, 1:].sub(got[:, :, :-1]).abs().max()) < 1 / 255

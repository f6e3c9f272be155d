"""Encoding and decoding in overlapping tiles, so that a picture of any size fits and nothing blocks the others.

Each tile is weighted by ramps that fall to zero at its inner edges; the weighted sum over the sum of weights has no
seam to see. Generators: they yield after each tile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import torch
from torch import Tensor

OVERLAP = 128
"""Pixels that neighbouring tiles share."""


def tiled(
    whole: Tensor, turn: Callable[[Tensor], Tensor], tile: int, overlap: int, ratio: tuple[int, int]
) -> Generator[None, None, Tensor]:
    """`turn` ([1, c, h, w] -> [1, C, h*up/down, w*up/down]) over overlapping tiles of `whole` [c, H, W].

    `tile` and `overlap` count pixels of `whole`; `ratio` is (up, down). Returns [C, H*up/down, W*up/down].
    """
    up, down = ratio
    height, width = whole.shape[-2:]
    total: Tensor | None = None
    weights_y, weights_x = torch.zeros(height * up // down, 1), torch.zeros(width * up // down)
    for top, bottom in spans(height, tile, overlap):
        for left, right in spans(width, tile, overlap):
            part = turn(whole[None, :, top:bottom, left:right])[0]
            rows = slice(top * up // down, bottom * up // down)
            columns = slice(left * up // down, right * up // down)
            ramp_y = ramp(rows.stop - rows.start, overlap * up // down, top > 0, bottom < height)[:, None]
            ramp_x = ramp(columns.stop - columns.start, overlap * up // down, left > 0, right < width)
            if total is None:
                total = torch.zeros(part.shape[0], len(weights_y), len(weights_x), device=whole.device)
            total[:, rows, columns] += part * (ramp_y * ramp_x).to(whole.device)
            # the tiles are a grid, so that the sum of their weights is a product of one sum an axis
            if left == 0:
                weights_y[rows] += ramp_y
            if top == 0:
                weights_x[columns] += ramp_x
            yield
    assert total is not None, "a picture has at least one tile"
    return total.div_(weights_y.to(whole.device)).div_(weights_x.to(whole.device))


def spans(length: int, tile: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Starts and ends of tiles that cover `length`; the last one is moved back rather than cut."""
    start = 0
    while start + tile < length:
        yield start, start + tile
        start += tile - overlap
    yield max(0, length - tile), length


def ramp(length: int, overlap: int, fade_in: bool, fade_out: bool) -> Tensor:
    """Weights of one axis of a tile: 1, falling linearly towards the edges that have a neighbour."""
    weights = torch.ones(length)
    edge = torch.linspace(0, 1, min(overlap, length) + 2)[1:-1]
    if fade_in:
        weights[: len(edge)] *= edge
    if fade_out:
        weights[length - len(edge) :] *= edge.flip(0)
    return weights

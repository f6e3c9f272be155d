"""Reading pictures and masks, and fitting them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safelight.engine import pixels as px


@pytest.mark.parametrize("blur", [0, 1, 4, 16, 32, 64])
def test_a_soft_mask_is_0_beyond_its_blur_and_falls_within(blur: int) -> None:
    mask = Image.new("L", (300, 300))
    mask.paste(255, (100, 100, 200, 200))
    soft = px.soften(mask, blur)
    outside = torch.ones(300, 300, dtype=torch.bool)
    outside[100 - blur : 200 + blur, 100 - blur : 200 + blur] = False
    assert float(soft[outside].max()) == 0.0
    assert float(soft[150, 150]) > 0.7
    if blur >= 4:
        across = soft[150, 100 - blur : 100]
        assert bool((across.diff() >= 0).all()) and 0 < float(across[-1]) < 0.6


def test_a_latent_pixel_counts_where_the_mask_touches_it() -> None:
    soft = torch.zeros(16, 16)
    soft[7, 8] = 0.5
    soft[12, 3] = 0.01
    assert px.latent_mask(soft, 8).tolist() == [[[0.0, 1.0], [0.0, 0.0]]]


@pytest.mark.parametrize(("resize", "size"), [("stretch", (32, 64)), ("crop", (32, 64)), ("pad", (32, 64))])
def test_pictures_are_fitted(tmp_path: Path, resize: px.Resize, size: tuple[int, int]) -> None:
    wide = Image.new("RGB", (80, 40), "red")
    wide.paste("blue", (40, 0, 80, 40))
    wide.save(tmp_path / "wide.png")
    got = px.read_picture(str(tmp_path / "wide.png"), *size, resize)
    assert got.size == size
    corner, middle = got.getpixel((0, 0)), got.getpixel((2, 32))
    assert corner == ((0, 0, 0) if resize == "pad" else (255, 0, 0))
    assert middle == (255, 0, 0) if resize != "crop" else middle[0] > 200


def test_transparent_pictures_lie_on_white_and_transparent_masks_on_black(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert px.read_picture(str(tmp_path / "clear.png"), 8, 8, "crop").getpixel((0, 0)) == (255, 255, 255)
    assert px.read_mask(str(tmp_path / "clear.png"), 8, 8, "crop").getpixel((0, 0)) == 0


def test_bytes_and_tensors_are_inverse() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert np.array_equal(px.to_bytes(px.to_tensor(Image.fromarray(values))).numpy(), values)

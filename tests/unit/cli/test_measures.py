"""Likeness by numbers that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from safelight.cli.baselines.measures import compare, ssim


def grey(value: int, side: int = 32) -> Image.Image:
    return Image.new("RGB", (side, side), (value, value, value))


def test_equal_pictures():
    likeness = compare(grey(7), grey(7))
    assert likeness.identical and likeness.psnr == math.inf and likeness.ssim == pytest.approx(1.0)
    assert likeness.facts()["psnr"] is None


def test_one_level_everywhere_is_48_dB():
    likeness = compare(grey(100), grey(101))
    assert (likeness.largest, likeness.share) == (1, 1.0)
    assert likeness.psnr == pytest.approx(20 * math.log10(255))


def test_a_single_pixel_is_seen():
    other = grey(100)
    other.putpixel((3, 4), (100, 100, 160))
    likeness = compare(grey(100), other)
    assert (likeness.largest, likeness.share) == (60, 1 / 1024) and not likeness.identical
    assert likeness.psnr == pytest.approx(10 * math.log10(255**2 * 32 * 32 * 3 / 60**2))


def test_ssim_of_flat_pictures_is_that_of_their_means():
    c1 = (0.01 * 255) ** 2
    flat = (2 * 50 * 200 + c1) / (50**2 + 200**2 + c1)
    assert ssim(np.full((20, 30), 50.0), np.full((20, 30), 200.0)) == pytest.approx(flat)


def test_ssim_falls_with_structure_lost_and_is_negative_for_the_inverse():
    noise = np.random.default_rng(0).uniform(0, 255, (64, 64))
    assert ssim(noise, noise) == pytest.approx(1.0)
    assert 0 < ssim(noise, (noise + noise.mean()) / 2) < 0.9
    assert ssim(noise, 255 - noise) < 0


def test_other_sizes_cannot_be_compared():
    with pytest.raises(ValueError, match="32x32 pixels cannot be compared with 16x16"):
        compare(grey(0), grey(0, 16))


def test_transparency_counts():
    clear = grey(9).convert("RGBA")
    clear.putalpha(0)
    assert compare(grey(9), clear).largest == 255

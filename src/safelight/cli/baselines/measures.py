"""How alike two pictures are."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

Pixels = np.ndarray[Any, np.dtype[np.float64]]

PEAK = 255.0
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
"""Wang et al. (2004), section III.B."""


@dataclass(frozen=True)
class Likeness:
    """Two pictures of one size against each other.

    `largest`: of the differences between 8-bit values; `share`: of pixels that differ at all; `psnr` in dB, infinite
    for equal ones; `ssim`: 1 for equal ones.
    """

    largest: int
    share: float
    psnr: float
    ssim: float

    @property
    def identical(self) -> bool:
        """Whether every pixel is the same."""
        return self.largest == 0

    def facts(self) -> dict[str, Any]:
        """For JSON, which knows no infinity: `psnr` is null for identical pictures."""
        return {**asdict(self), "psnr": None if self.identical else self.psnr, "identical": self.identical}


def compare(kept: Image.Image, drawn: Image.Image) -> Likeness:
    """Compare pixels; ValueError where the sizes differ."""
    if kept.size != drawn.size:
        raise ValueError(f"{kept.width}x{kept.height} pixels cannot be compared with {drawn.width}x{drawn.height}")
    mode = "RGBA" if kept.has_transparency_data or drawn.has_transparency_data else "RGB"
    one, other = (np.asarray(each.convert(mode), dtype=np.float64) for each in (kept, drawn))
    apart = np.abs(one - other)
    error = float(np.mean(apart**2))
    return Likeness(
        largest=int(apart.max()),
        share=float((apart.max(axis=-1) > 0).mean()),
        psnr=10 * math.log10(PEAK**2 / error) if error else math.inf,
        ssim=ssim(_luma(kept), _luma(drawn)),
    )


def ssim(one: Pixels, other: Pixels) -> float:
    """Mean structural similarity of two grey pictures [H, W] in 0..255, sides at least 11 pixels.

    Wang, Bovik, Sheikh, Simoncelli (2004), eq. 13, under a Gaussian window, where the window lies whole inside.
    """
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    mean_one, mean_other = _blurred(one), _blurred(other)
    var_one = _blurred(one * one) - mean_one**2
    var_other = _blurred(other * other) - mean_other**2
    both = _blurred(one * other) - mean_one * mean_other
    above = (2 * mean_one * mean_other + c1) * (2 * both + c2)
    below = (mean_one**2 + mean_other**2 + c1) * (var_one + var_other + c2)
    return float(np.mean(above / below))


def _blurred(grey: Pixels) -> Pixels:
    """Under the Gaussian window, one axis after the other."""
    weights = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    weights /= weights.sum()
    for _ in range(2):
        rows = len(grey) - WINDOW + 1
        blurred = np.zeros((rows, grey.shape[1]))
        for at, weight in enumerate(weights):
            blurred += weight * grey[at : at + rows]
        grey = blurred.T
    return grey


def _luma(picture: Image.Image) -> Pixels:
    return np.asarray(picture.convert("RGB").convert("L"), dtype=np.float64)

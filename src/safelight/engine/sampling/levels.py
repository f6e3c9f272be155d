"""The discrete noise levels a family was trained on."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

ZERO_SNR_ALPHA_BAR = 4.8973451890853435e-08
"""What stands for an alpha-bar of 0: the value A1111 and ComfyUI use, sigma 4518.76; an infinite sigma cannot walk."""


class NoiseLevels:
    """Ascending training sigmas; level t is the sigma of timestep t, and between levels log sigma is linear.

    As k-diffusion's `DiscreteSchedule`. ValueError unless there are two or more positive,
    strictly ascending sigmas.
    """

    def __init__(self, sigmas: Sequence[float]) -> None:
        self.sigmas = tuple(sigmas)
        ascending = all(low < high for low, high in pairwise(self.sigmas))
        if len(self.sigmas) < 2 or not ascending or self.sigmas[0] <= 0 or not math.isfinite(self.sigmas[-1]):
            raise ValueError("Noise levels are two or more finite positive sigmas, strictly ascending.")

    def __len__(self) -> int:
        return len(self.sigmas)

    @property
    def smallest(self) -> float:
        """The sigma of timestep 0."""
        return self.sigmas[0]

    @property
    def largest(self) -> float:
        """The sigma of the last timestep."""
        return self.sigmas[-1]

    @cached_property
    def _logs(self) -> tuple[float, ...]:
        return tuple(math.log(sigma) for sigma in self.sigmas)

    def sigma(self, t: float) -> float:
        """The sigma of timestep `t`, 0 to len - 1, clamped to that range."""
        t = min(max(t, 0.0), len(self.sigmas) - 1.0)
        low = min(int(t), len(self.sigmas) - 2)
        share = t - low
        if share in (0.0, 1.0):
            return self.sigmas[low + int(share)]
        return math.exp((1 - share) * self._logs[low] + share * self._logs[low + 1])

    def timestep(self, sigma: float) -> float:
        """The timestep of `sigma`, 0 to len - 1: the inverse of `sigma`, clamped to that range."""
        if sigma <= self.smallest:
            return 0.0
        if sigma >= self.largest:
            return len(self.sigmas) - 1.0
        low = bisect.bisect_right(self.sigmas, sigma) - 1
        return low + (math.log(sigma) - self._logs[low]) / (self._logs[low + 1] - self._logs[low])


def scaled_linear_levels(
    start: float = 0.00085, end: float = 0.012, n: int = 1000, zero_terminal_snr: bool = False
) -> NoiseLevels:
    """Levels of betas linear in their square root: those of every Stable Diffusion. Rombach et al. (2022).

    `zero_terminal_snr`: shifted and scaled so that the last level is noise alone (Lin et al. 2023, Algorithm 1). Its
    alpha-bar of 0 becomes `ZERO_SNR_ALPHA_BAR`.
    """
    first, last = math.sqrt(start), math.sqrt(end)
    alpha_bars, product = [], 1.0
    for i in range(n):
        product *= 1 - (first + (last - first) * i / (n - 1)) ** 2
        alpha_bars.append(product)
    if zero_terminal_snr:
        roots = [math.sqrt(alpha_bar) for alpha_bar in alpha_bars]
        scale = roots[0] / (roots[0] - roots[-1])
        alpha_bars = [((root - roots[-1]) * scale) ** 2 for root in roots]
        alpha_bars[-1] = ZERO_SNR_ALPHA_BAR
    return NoiseLevels([math.sqrt((1 - alpha_bar) / alpha_bar) for alpha_bar in alpha_bars])

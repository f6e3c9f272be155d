"""The Brownian path of the SDE samplers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchsde import BrownianTree

_DIGITS = 6
"""The tree rounds every sigma to this many decimals (its tolerance of 1e-6)."""


class Brownian:
    """W(sigma), a Brownian path over a walk's positive sigmas, as k-diffusion's `BrownianTreeNoiseSampler`.

    A function of (seed, shape, range) alone: torchsde's tree halves the range and seeds each node by its place (Li et
    al. 2020, "Scalable gradients", section 4), so an increment does not depend on what was asked before, in its last
    bits neither. CPU, fp32. The tree is made at the first increment: most samplers never ask.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], sigmas: Sequence[float]) -> None:
        self._seed, self._shape = seed, shape
        positive = [_single(sigma) for sigma in sigmas if sigma > 0]
        self._low, self._high = min(positive), max(positive)
        self._tree: BrownianTree | None = None

    def increment(self, sigma: float, sigma_next: float) -> Tensor:
        """(W(sigma_next) - W(sigma)) / sqrt(|sigma - sigma_next|), of unit variance. ValueError outside the range."""
        start, end = _single(sigma), _single(sigma_next)
        low, high = min(start, end), max(start, end)
        if low < self._low or high > self._high or low == high:
            raise ValueError(
                f"The Brownian path runs from sigma {self._low:g} to {self._high:g}; "
                f"it has no increment from {sigma:g} to {sigma_next:g}."
            )
        if self._tree is None:
            self._tree = BrownianTree(
                t0=self._low, t1=self._high, w0=torch.zeros(self._shape), entropy=self._seed, tol=10.0**-_DIGITS
            )
        # The tree rounds its ends, and warns of a sigma that it has thereby left outside.
        within = [min(max(at, round(self._low, _DIGITS)), round(self._high, _DIGITS)) for at in (low, high)]
        rise: Tensor = self._tree(*within)
        return rise * ((1 if end > start else -1) / math.sqrt(high - low))


def _single(sigma: float) -> float:
    """`sigma` in single precision: k-diffusion's tree is asked for such, and a last bit moves a node."""
    return float(torch.tensor(sigma, dtype=torch.float32))

"""Noise paths: how a noise level mixes a clean latent with noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class NoisePath(Protocol):
    """How sigma mixes a clean latent `x0` with unit Gaussian `noise`. Both have the shape of one picture's latent."""

    @property
    def name(self) -> str:
        """The path's id in the sampler table: `ve` or `flow`."""
        ...

    def mix(self, x0: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """The noisy latent at `sigma`."""
        ...

    def start(self, noise: Tensor, sigma: float) -> Tensor:
        """The first x of a run from nothing: `noise` scaled to the first sigma."""
        ...

    def alpha(self, sigma: float) -> float:
        """The scale of x0 in a latent at `sigma`."""
        ...

    def half_log_snr(self, sigma: float) -> float:
        """lambda = log(alpha / sigma), the time of the DPM-Solvers; infinite at either end of the path."""
        ...

    def ancestral(self, sigma: float, sigma_next: float, eta: float) -> tuple[float, float, float]:
        """The parts of an ancestral step: (sigma to go down to, scale of x after it, sigma of the fresh noise)."""
        ...

    def renoise(self, sigma: float, sigma_next: float) -> tuple[float, float]:
        """The parts of a way up to `sigma_next` >= `sigma`: (scale of x, sigma of the fresh noise)."""
        ...

    def velocity(self, x: Tensor, x0: Tensor, sigma: float) -> Tensor:
        """The path's velocity at a latent `x` whose clean part is `x0`: what a v or flow network predicts."""
        ...

    def clean(self, x: Tensor, velocity: Tensor, sigma: float) -> Tensor:
        """The clean latent of `x` where the velocity is `velocity`: the inverse of `velocity`."""
        ...


@dataclass(frozen=True)
class VE:
    """Variance exploding: x = x0 + sigma * noise. Karras et al. (2022)."""

    name: str = "ve"

    def mix(self, x0: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """x0 + sigma * noise."""
        return x0 + noise * sigma

    def start(self, noise: Tensor, sigma: float) -> Tensor:
        """noise * sqrt(1 + sigma^2): a unit-variance picture seen through noise, as ComfyUI starts."""
        return noise * math.sqrt(1.0 + sigma**2)

    def alpha(self, sigma: float) -> float:
        """1 at every sigma."""
        del sigma
        return 1.0

    def half_log_snr(self, sigma: float) -> float:
        """-log sigma."""
        return -math.log(sigma) if sigma > 0 else math.inf

    def ancestral(self, sigma: float, sigma_next: float, eta: float) -> tuple[float, float, float]:
        """k-diffusion's `get_ancestral_step`; the scale is 1."""
        if not eta or sigma_next == 0:
            return sigma_next, 1.0, 0.0
        up = min(sigma_next, eta * (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5)
        return (sigma_next**2 - up**2) ** 0.5, 1.0, up

    def renoise(self, sigma: float, sigma_next: float) -> tuple[float, float]:
        """Variances add. Karras et al. (2022), Algorithm 2, line 6."""
        return 1.0, (sigma_next**2 - sigma**2) ** 0.5

    def velocity(self, x: Tensor, x0: Tensor, sigma: float) -> Tensor:
        """v = alpha * noise - s * x0 with alpha^2 + s^2 = 1. Salimans & Ho (2022), appendix D."""
        return (x - (1 + sigma**2) * x0) / (sigma * math.sqrt(1 + sigma**2))

    def clean(self, x: Tensor, velocity: Tensor, sigma: float) -> Tensor:
        """x0 from v."""
        return (x - sigma * math.sqrt(1 + sigma**2) * velocity) / (1 + sigma**2)


@dataclass(frozen=True)
class Flow:
    """Rectified flow: x = (1 - sigma) * x0 + sigma * noise. Liu et al. (2023), Lipman et al. (2023)."""

    name: str = "flow"

    def mix(self, x0: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """(1 - sigma) * x0 + sigma * noise."""
        return x0 * (1 - sigma) + noise * sigma

    def start(self, noise: Tensor, sigma: float) -> Tensor:
        """noise * sigma."""
        return noise * sigma

    def alpha(self, sigma: float) -> float:
        """1 - sigma."""
        return 1 - sigma

    def half_log_snr(self, sigma: float) -> float:
        """log((1 - sigma) / sigma)."""
        if sigma <= 0 or sigma >= 1:
            return math.inf if sigma <= 0 else -math.inf
        return math.log((1 - sigma) / sigma)

    def ancestral(self, sigma: float, sigma_next: float, eta: float) -> tuple[float, float, float]:
        """Go below `sigma_next`, rescale to its clean share, and add noise back up to it.

        With x_down = (1-d) x0 + d n, scaling by (1-s)/(1-d) restores the clean share of s = sigma_next, and
        noise of variance s^2 - (d (1-s)/(1-d))^2 restores its level.
        """
        if not eta or sigma_next == 0:
            return sigma_next, 1.0, 0.0
        down = sigma_next * (1 + (sigma_next / sigma - 1) * eta)
        scale = (1 - sigma_next) / (1 - down)
        return down, scale, max(0.0, sigma_next**2 - down**2 * scale**2) ** 0.5

    def renoise(self, sigma: float, sigma_next: float) -> tuple[float, float]:
        """Scale x0's share down to 1 - sigma_next, and fill the noise up. ValueError above sigma 1."""
        if sigma_next > 1:
            raise ValueError(f"A flow path ends at sigma 1; it cannot be noised up to {sigma_next:g}.")
        if sigma == sigma_next:
            return 1.0, 0.0
        scale = (1 - sigma_next) / (1 - sigma)
        return scale, max(0.0, sigma_next**2 - (scale * sigma) ** 2) ** 0.5

    def velocity(self, x: Tensor, x0: Tensor, sigma: float) -> Tensor:
        """noise - x0 = (x - x0) / sigma."""
        return (x - x0) / sigma

    def clean(self, x: Tensor, velocity: Tensor, sigma: float) -> Tensor:
        """x0 = x - sigma * velocity."""
        return x - sigma * velocity

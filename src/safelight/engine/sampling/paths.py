"""Noise paths: how a noise level mixes a clean latent with noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
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

    def ancestral(self, sigma: float, sigma_next: float, eta: float) -> tuple[float, float, float]:
        """The parts of an ancestral step: (sigma to go down to, scale of x after it, sigma of the fresh noise)."""
        ...


@dataclass(frozen=True)
class VE:
    """Variance exploding: x = x0 + sigma * noise. Karras et al. (2022)."""

    name: str = "ve"

    def mix(self, x0: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """x0 + sigma * noise."""
        return x0 + noise * sigma

    def start(self, noise: Tensor, sigma: float) -> Tensor:
        """noise * sqrt(1 + sigma^2): a unit-variance picture seen through noise, as A1111 and ComfyUI start."""
        return noise * float(torch.sqrt(torch.tensor(1.0 + sigma**2)))

    def ancestral(self, sigma: float, sigma_next: float, eta: float) -> tuple[float, float, float]:
        """k-diffusion's `get_ancestral_step`; the scale is 1."""
        if not eta or sigma_next == 0:
            return sigma_next, 1.0, 0.0
        up = min(sigma_next, eta * (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5)
        return (sigma_next**2 - up**2) ** 0.5, 1.0, up


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

"""The UNet as a denoiser in sigma space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from safelight.engine.conditioning import Conditioning
from safelight.engine.sampling.levels import NoiseLevels
from safelight.engine.sampling.paths import VE, NoisePath
from safelight.engine.weights.assembly import module_bytes
from safelight.engine.weights.room import Placing


class UNetNetwork:
    """A UNet of Stable Diffusion with the preconditioning of its prediction. Stateless between calls.

    With x = x0 + sigma * n it sees x / sqrt(sigma^2 + 1) and the timestep of sigma, between the trained ones where
    sigma lies between them (k-diffusion, A1111). `prediction`: eps, v or x0. Karras et al. (2022), eq. 7 and C.3;
    Salimans & Ho (2022) for v.
    """

    def __init__(self, module: nn.Module, levels: NoiseLevels, prediction: str, placing: Placing) -> None:
        if prediction not in ("eps", "v", "x0"):
            raise ValueError(f"A Stable Diffusion network predicts eps, v or x0, not {prediction!r}.")
        self.module = module
        self.levels = levels
        self.path: NoisePath = VE()
        self.prediction = prediction
        self._placing = placing

    @property
    def channels(self) -> int:
        """Channels of the latent it cleans."""
        return int(cast(Any, self.module).config["in_channels"])

    @property
    def bytes(self) -> int:
        """Bytes of its weights."""
        return module_bytes(self.module)

    @torch.no_grad()
    def denoise(self, x: Tensor, sigmas: Sequence[float], conditionings: Sequence[Conditioning]) -> Tensor:
        """The clean latents of a pass. x: fp32 [n, C, H, W]; one sigma and one conditioning (of equal length) a row."""
        device, dtype = self._placing.device, self._placing.dtype
        x = x.to(device, torch.float32)
        order = torch.channels_last if self._placing.channels_last else torch.contiguous_format
        seen = (x * self._column([(sigma**2 + 1) ** -0.5 for sigma in sigmas])).to(dtype, memory_format=order)
        times = torch.tensor([self.levels.timestep(sigma) for sigma in sigmas], dtype=torch.float32, device=device)
        states = torch.stack([each.sequence for each in conditionings]).to(device, dtype)
        answer: Tensor = self.module(seen, times, encoder_hidden_states=states, return_dict=False)[0]
        return self._clean(x, answer.to(torch.float32, memory_format=torch.contiguous_format), sigmas)

    def _clean(self, x: Tensor, answer: Tensor, sigmas: Sequence[float]) -> Tensor:
        """c_skip * x + c_out * answer."""
        if self.prediction == "x0":
            return answer
        if self.prediction == "eps":
            return x - answer * self._column(sigmas)
        skip = self._column([1 / (sigma**2 + 1) for sigma in sigmas])
        return x * skip - answer * self._column([sigma * (sigma**2 + 1) ** -0.5 for sigma in sigmas])

    def _column(self, values: Sequence[float]) -> Tensor:
        """One number a row: [n, 1, 1, 1], fp32."""
        return torch.tensor(values, dtype=torch.float32, device=self._placing.device).view(-1, 1, 1, 1)

"""The KL autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from safelight.engine.weights.assembly import module_bytes
from safelight.engine.weights.room import Placing

PUBLISHED_LOOK = [[0.298, 0.207, 0.208], [0.187, 0.286, 0.173], [-0.158, 0.189, 0.264], [-0.184, -0.271, -0.473]]
"""Red, green and blue of each latent channel of Stable Diffusion's autoencoder, as published by its users in 2022
("Decoding latents to RGB without upscaling", discuss.huggingface.co)."""

Look = tuple[Sequence[Sequence[float]], Sequence[float]]


class KLAutoencoder:
    """An autoencoder whose latents are scaled to about unit variance. Rombach et al. (2022), D.1."""

    def __init__(self, module: nn.Module, placing: Placing, look: Look | None) -> None:
        self.module = module
        self._network = cast(Any, module)
        self._placing = placing
        self._scale = float(self._network.config["scaling_factor"])
        factors, bias = look or (self._usual_look(), [0.0, 0.0, 0.0])
        self.preview = (torch.tensor(factors, dtype=torch.float32), torch.tensor(bias, dtype=torch.float32))

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self._placing.dtype

    def widen(self) -> None:
        """Compute in fp32 from now on."""
        nn.Module.to(self.module, torch.float32)  # not diffusers' own, which warns of modules that there are none of
        self._placing = replace(self._placing, dtype=torch.float32)

    @property
    def factor(self) -> int:
        """Pixels per latent pixel, each way."""
        return 1 << (len(self._network.config["block_out_channels"]) - 1)

    @property
    def channels(self) -> int:
        """Latent channels."""
        return int(self._network.config["latent_channels"])

    @property
    def bytes(self) -> int:
        """Bytes of its weights."""
        return module_bytes(self.module)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """[n, 3, H, W] in -1..1 -> the mean latents [n, C, H/factor, W/factor], fp32."""
        mean: Tensor = self._network.encode(self._taken(pixels)).latent_dist.mean
        return mean.to(torch.float32, memory_format=torch.contiguous_format) * self._scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """[n, C, h, w] -> [n, 3, h*factor, w*factor], fp32, not clamped."""
        pixels: Tensor = self._network.decode(self._taken(latents / self._scale), return_dict=False)[0]
        return pixels.to(torch.float32, memory_format=torch.contiguous_format)

    def _taken(self, tensor: Tensor) -> Tensor:
        order = torch.channels_last if self._placing.channels_last else torch.contiguous_format
        return tensor.to(self._placing.device, self._placing.dtype, memory_format=order)

    def _usual_look(self) -> list[list[float]]:
        """The published factors for four channels; a grey mean for a layout that nobody has measured."""
        return PUBLISHED_LOOK if self.channels == len(PUBLISHED_LOOK) else [[1 / self.channels] * 3] * self.channels

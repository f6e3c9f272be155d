"""Scenes drawn and encoded ahead of the training that learns from them, renewed while it goes on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from training.drawing import draw_scene
from training.package_model import to_pixels
from training.scenes import Scene, random_scene

SIZES = ((128, 128),) * 7 + ((160, 128), (128, 160), (192, 128))
_CHUNK = 16


@dataclass(frozen=True)
class Lesson:
    """Some scenes of one size: their scaled latents [n, channels, h, w] and how much of each cell subjects cover."""

    scenes: list[Scene]
    latents: Tensor
    coverage: Tensor


class Pool:
    """About `count` scenes in latents; `renew` replaces sixteen of them by new ones.

    `change` alters the drawn picture (an adapter's style).
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        count: int,
        rng: random.Random,
        new_scene: Callable[[random.Random], Scene] = random_scene,
        change: Callable[[Image.Image], Image.Image] = lambda picture: picture,
    ) -> None:
        self._vae, self._rng, self._new_scene, self._change = vae, rng, new_scene, change
        self._lessons = [self._draw() for _ in range(max(1, count // _CHUNK))]

    @torch.no_grad()
    def _draw(self) -> Lesson:
        size, rng = self._rng.choice(SIZES), self._rng
        scenes = [self._new_scene(rng) for _ in range(_CHUNK)]
        drawn = [draw_scene(scene, *size, rng) for scene in scenes]
        pixels = torch.stack([to_pixels(self._change(drawing.picture)) for drawing in drawn]).to(self._vae.device)
        with torch.autocast(pixels.device.type, dtype=torch.bfloat16):
            latents = self._vae.encode(pixels).latent_dist.mean.float() * self._vae.config.scaling_factor
        masks = torch.stack([to_pixels(drawing.mask.convert("RGB"))[:1] for drawing in drawn]) / 2 + 0.5
        factor = pixels.shape[-1] // latents.shape[-1]
        return Lesson(scenes, latents.half(), F.avg_pool2d(masks.to(latents), factor).half())

    def renew(self) -> None:
        """Forget one lesson and draw another."""
        self._lessons[self._rng.randrange(len(self._lessons))] = self._draw()

    def choose(self, count: int) -> Lesson:
        """`count` scenes of one size, taken from several lessons."""
        first = self._rng.choice(self._lessons)
        shape = first.latents.shape
        alike = [lesson for lesson in self._lessons if lesson.latents.shape == shape]
        picked = [(self._rng.choice(alike), self._rng.randrange(_CHUNK)) for _ in range(count)]
        return Lesson(
            [lesson.scenes[i] for lesson, i in picked],
            torch.stack([lesson.latents[i] for lesson, i in picked]).float(),
            torch.stack([lesson.coverage[i] for lesson, i in picked]).float(),
        )

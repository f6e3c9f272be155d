"""Streams of noise: one per picture, on the CPU, so that a picture's noise is the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from safelight.core.stages import NoiseUse
from safelight.engine.sampling.brownian import Brownian
from safelight.engine.sampling.step import Noise

_SEEDS = 2**64


class GeneratorNoise:
    """Gaussians from a CPU generator, and a Brownian path of its own seed. See `step.Noise`.

    `shape`: what one draw is of. `row`: which row of a draw is this picture's; None = all of it. The state is the
    generator's alone: the Brownian path is a function of what it was made with.
    """

    def __init__(
        self, seed: int, shape: tuple[int, ...], row: int | None, brownian: Brownian, device: torch.device
    ) -> None:
        self._generator = torch.Generator("cpu").manual_seed(seed % _SEEDS)
        self._shape, self._row = shape, row
        self._brownian, self._device = brownian, device

    def normal(self) -> Tensor:
        """The next draw of the generator."""
        return self._own(torch.randn(self._shape, generator=self._generator))

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        """The Brownian increment, of unit variance."""
        return self._own(self._brownian.increment(sigma, sigma_next))

    def state(self) -> dict[str, Tensor]:
        """The generator's place: bytes."""
        return {"generator": self._generator.get_state()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put the generator to that place."""
        self._generator.set_state(state["generator"].to(device="cpu", dtype=torch.uint8))

    def _own(self, drawn: Tensor) -> Tensor:
        own = drawn if self._row is None else drawn[self._row].clone()
        return own.to(self._device)


Opening = Callable[[NoiseUse, tuple[int, ...], Sequence[float], torch.device], tuple[Tensor, Noise]]
"""See `open_noise`."""


def _a1111(
    use: NoiseUse, shape: tuple[int, ...], sigmas: Sequence[float], device: torch.device
) -> tuple[Tensor, Noise]:
    """One generator per picture, seeded with seed + picture: the start is its first draw, then the steps' noise."""
    seed = (use.seed + use.picture) % _SEEDS
    stream = GeneratorNoise(seed, shape, None, Brownian(seed, shape, sigmas), device)
    return stream.normal(), stream


def _comfy(
    use: NoiseUse, shape: tuple[int, ...], sigmas: Sequence[float], device: torch.device
) -> tuple[Tensor, Noise]:
    """All pictures from one seed, each a row of every draw: the start from `seed`, the steps' noise from `seed` + 1.

    That second generator is ComfyUI's on the CPU; on a GPU it draws on the GPU, which no other machine can repeat.
    """
    batch = (use.pictures, *shape)
    brownian = Brownian(use.seed % _SEEDS, batch, sigmas)
    start = torch.randn(batch, generator=torch.Generator("cpu").manual_seed(use.seed % _SEEDS))
    return start[use.picture].clone().to(device), GeneratorNoise(use.seed + 1, batch, use.picture, brownian, device)


SOURCES: Mapping[str, Opening] = MappingProxyType({"a1111": _a1111, "comfy": _comfy})
"""The sources of noise by name."""


def open_noise(
    use: NoiseUse, shape: tuple[int, ...], sigmas: Sequence[float], device: torch.device | str = "cpu"
) -> tuple[Tensor, Noise]:
    """A picture's starting noise (fp32, `shape`) and its stream from there on, both on `device`.

    `sigmas`: the walk's; their range is the Brownian path's, so a resumed walk must give the whole of them again.
    To go on from a checkpoint, open it again and `restore` the stream. KeyError for a source that does not exist.
    """
    return SOURCES[use.source](use, shape, sigmas, torch.device(device))

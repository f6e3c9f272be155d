"""A small driver of samplers for tests: one picture, a denoiser in closed form, no guidance."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import safetensors.torch
import torch
from torch import Tensor

from safelight.core.samplers import SamplerRecord, complete_options, sampler_table
from safelight.core.stages import NoiseUse
from safelight.engine.sampling.noise import open_noise
from safelight.engine.sampling.paths import VE, NoisePath
from safelight.engine.sampling.step import Denoised, Memory, Noise, Step
from safelight.engine.sampling.table import plan_of, sampler_of

Denoiser = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Place:
    """Where a walk stands: after `done` moves."""

    x: Tensor
    memory: Memory = field(default_factory=dict)
    done: int = 0


@dataclass(frozen=True)
class Gaussian:
    """Data N(mean, std^2) in each element: its denoiser and the exact solution of its ODE, on either path."""

    mean: Tensor
    std: Tensor
    path: NoisePath = field(default_factory=VE)

    def spread(self, sigma: float) -> Tensor:
        return torch.sqrt((self.path.alpha(sigma) * self.std) ** 2 + sigma**2)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        alpha = self.path.alpha(sigma)
        return self.mean + alpha * self.std**2 / self.spread(sigma) ** 2 * (x - alpha * self.mean)

    def exact(self, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
        from_mean = (x - self.path.alpha(sigma) * self.mean) / self.spread(sigma)
        return self.path.alpha(sigma_next) * self.mean + self.spread(sigma_next) * from_mean


def gaussian(shape: tuple[int, ...] = (2, 3, 4), path: NoisePath | None = None) -> Gaussian:
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(shape, generator=generator, dtype=torch.float64)
    std = 0.3 + torch.rand(shape, generator=generator, dtype=torch.float64)
    return Gaussian(mean, std, path or VE())


def mixture(x: Tensor, sigma: float) -> Tensor:
    """The denoiser of an even mixture of N(-1, 0.3^2) and N(1.5, 0.5^2) in each element (VE): no straight lines."""
    parts = []
    for mean, std in ((-1.0, 0.3), (1.5, 0.5)):
        variance = std**2 + sigma**2
        log = -((x - mean) ** 2) / (2 * variance) - 0.5 * math.log(variance)
        parts.append((log, mean + std**2 / variance * (x - mean)))
    weights = torch.softmax(torch.stack([log for log, _ in parts]), 0)
    return sum(weight * clean for weight, (_, clean) in zip(weights, parts, strict=True))


class NoNoise:
    """The stream of a sampler that must not draw."""

    def normal(self) -> Tensor:
        raise AssertionError("drew noise")

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        raise AssertionError("drew a Brownian increment")

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        assert not state


class Recorded(NoNoise):
    """Plays back given draws, one after another."""

    def __init__(self, draws: list[Tensor]) -> None:
        self._left = iter(draws)

    def normal(self) -> Tensor:
        return next(self._left)


def stream(sigmas: list[float], shape: tuple[int, ...], source: str = "a1111", seed: int = 7) -> tuple[Tensor, Noise]:
    return open_noise(NoiseUse(source, seed, picture=1, pictures=3), shape, sigmas)


def drive(
    sampler: str | SamplerRecord,
    denoiser: Denoiser,
    sigmas: list[float],
    start: Tensor | Place,
    *,
    noise: Noise | None = None,
    options: Mapping[str, object] | None = None,
    path: NoisePath | None = None,
    moves: int | None = None,
) -> Place:
    """Walk from `start`, all the way or `moves` moves of the plan."""
    record = sampler_table().get(sampler) if isinstance(sampler, str) else sampler
    complete = complete_options(record, options or {})
    place = start if isinstance(start, Place) else Place(start)
    left = plan_of(record)(sigmas, complete)[place.done :]
    for move in left if moves is None else left[:moves]:
        step = Step(
            x=place.x,
            sigma=move.sigma,
            sigma_next=move.sigma_next,
            noise=noise or NoNoise(),
            path=path or VE(),
            memory=place.memory,
            options=complete,
            order=move.order,
        )
        under_way = sampler_of(record, move)(step)
        try:
            query = next(under_way)
            while True:
                query = under_way.send(Denoised(denoiser(query.x, query.sigma)))
        except StopIteration as end:
            place = Place(end.value.x, end.value.memory, place.done + 1)
    return place


def written(place: Place, noise: Noise) -> bytes:
    """A walk as a file: what a checkpoint must hold, and nothing else."""
    tensors = {"x": place.x, **{f"noise.{name}": value for name, value in noise.state().items()}}
    numbers: dict[str, float | int] = {}
    for name, value in place.memory.items():
        if isinstance(value, Tensor):
            tensors[f"memory.{name}"] = value
        else:
            numbers[name] = value
    facts = {"place": json.dumps({"done": place.done, "numbers": numbers})}
    return safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()}, facts)


def read(data: bytes, noise: Noise) -> Place:
    """Go on from `written`: restores the stream, returns the place."""
    tensors = safetensors.torch.load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    facts = json.loads(header["__metadata__"]["place"])
    noise.restore({name.removeprefix("noise."): value for name, value in tensors.items() if name.startswith("noise.")})
    memory = {name.removeprefix("memory."): value for name, value in tensors.items() if name.startswith("memory.")}
    return Place(tensors["x"], {**memory, **facts["numbers"]}, facts["done"])

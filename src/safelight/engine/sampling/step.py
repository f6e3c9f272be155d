"""One step of a sampler: what it gets, what it asks, what it leaves. See docs/architecture.md, "A sampler"."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, Protocol

from torch import Tensor

from safelight.engine.sampling.paths import NoisePath

Memory = Mapping[str, Tensor | float | int]
"""What a sampler carries from step to step: flat, so that a checkpoint can hold it."""

Options = Mapping[str, float | int | bool | str]
"""A sampler's parameters, complete (defaults filled in from `core.samplers`)."""


@dataclass(frozen=True)
class Query:
    """A sampler asks for the clean latent at (x, sigma).

    x: fp32, the shape of one picture's latent, [C, H, W]. `needs_unconditional` asks guidance for the
    unconditional part too (the CFG++ samplers do).
    """

    x: Tensor
    sigma: float
    needs_unconditional: bool = False


@dataclass(frozen=True)
class Denoised:
    """The answer to a Query: the clean latent after guidance, and without it. fp32, the shape of the query's x."""

    guided: Tensor
    unconditional: Tensor | None = None


class Noise(Protocol):
    """A picture's own stream of noise. Its state is data, so a run can be written down and go on elsewhere."""

    def normal(self) -> Tensor:
        """The next unit Gaussian of the stream, fp32, the shape of the picture's latent."""
        ...

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        """The Brownian path's increment from `sigma` down to `sigma_next`, scaled to unit variance.

        Depends on the two sigmas and the seed alone, not on what was drawn before.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on from here."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state()`."""
        ...


@dataclass(frozen=True)
class Move:
    """One entry of a sampler's plan: walk from `sigma` to `sigma_next`. Data, so that a run can be resumed at any.

    `step`: the sampler's own step, downwards. `renoise`: add fresh noise from `sigma` up to `sigma_next` (churn,
    restart); `table.sampler_of` gives what carries out either.
    `order`: how many evaluations this step may use, where a plan decides it (dpm_fast); 0 = the sampler's own.
    """

    sigma: float
    sigma_next: float
    kind: Literal["step", "renoise"] = "step"
    order: int = 0


@dataclass(frozen=True)
class Step:
    """What one step of a sampler gets.

    x: fp32 [C, H, W], the latent at `sigma`. `memory`: what the step before left. `noise`: the picture's stream.
    `options`: the sampler's parameters. `path`: how sigma mixes clean and noise.
    """

    x: Tensor
    sigma: float
    sigma_next: float
    noise: Noise
    path: NoisePath
    memory: Memory = field(default_factory=dict)
    options: Options = field(default_factory=dict)
    order: int = 0

    @property
    def width(self) -> float:
        """sigma_next - sigma: negative on the way down."""
        return self.sigma_next - self.sigma


@dataclass(frozen=True)
class Moved:
    """What one step leaves: the latent at `sigma_next`, and the memory for the next step."""

    x: Tensor
    memory: Memory = field(default_factory=dict)


Steps = Generator[Query, Denoised, Moved]
"""A step under way: yields queries, is sent answers, returns what it leaves."""

Sampler = Callable[[Step], Steps]
"""A sampler is one step (see `core.samplers` for the table that names them)."""

Plan = Callable[[list[float], Options], list[Move]]
"""A sampler's walk where it does not simply go down the sigmas."""


def walk(sigmas: list[float], options: Options) -> list[Move]:
    """The plan of most samplers: each sigma to the next, downwards. `sigmas` has n+1 entries and ends in 0."""
    del options
    return [Move(sigma, sigma_next) for sigma, sigma_next in pairwise(sigmas)]

"""Schedules: `(n, levels, options) -> n + 1` strictly falling sigmas that end in 0.

The definitions are those of k-diffusion, A1111 and ComfyUI, in double precision. A new one is a function here (or in
an extension) and a line in `core.schedules`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from safelight.engine.sampling.levels import NoiseLevels
from safelight.engine.sampling.step import Options
from safelight.errors import InvalidRequest, InvalidValue

__all__ = ["NoiseLevels", "Schedule", "ddim_uniform", "exponential", "karras", "normal", "sgm_uniform", "simple"]

Schedule = Callable[[int, NoiseLevels, Options], list[float]]
"""n steps (1 or more), the family's levels, the schedule's options (complete) -> n + 1 sigmas."""


def normal(n: int, levels: NoiseLevels, options: Options) -> list[float]:
    """Timesteps evenly from the last to the first. k-diffusion `DiscreteSchedule.get_sigmas`; A1111's "Uniform"."""
    del options
    return [*(levels.sigma(t) for t in _line(len(levels) - 1.0, 0.0, n)), 0.0]


def sgm_uniform(n: int, levels: NoiseLevels, options: Options) -> list[float]:
    """As `normal` with one step more, whose last sigma is left out. Stability's generative-models; ComfyUI."""
    del options
    return [*(levels.sigma(t) for t in _line(len(levels) - 1.0, 0.0, n, closed=False)), 0.0]


def simple(n: int, levels: NoiseLevels, options: Options) -> list[float]:
    """Every (len/n)-th training sigma from the largest down, cut to whole timesteps. ComfyUI's `simple`."""
    del options
    _at_most(n, len(levels), "simple")
    stride = len(levels) / n
    return [*(levels.sigmas[-1 - int(i * stride)] for i in range(n)), 0.0]


def ddim_uniform(n: int, levels: NoiseLevels, options: Options) -> list[float]:
    """Timesteps 1, 1 + s, 1 + 2s, ... with s = len // n. Song et al. (2021), D.2; diffusers' "leading" with offset 1.

    Where n does not divide the number of levels, A1111 and ComfyUI walk more than n steps; here it is always n.
    """
    del options
    _at_most(n, len(levels) - 1, "ddim_uniform")
    stride = len(levels) // n
    return [*(levels.sigmas[1 + i * stride] for i in reversed(range(n))), 0.0]


def karras(n: int, levels: NoiseLevels, options: Options) -> list[float]:
    """Evenly in sigma^(1/rho). Karras et al. (2022), eq. 5. Options: rho, sigma_min, sigma_max."""
    low, high = _range(levels, options)
    rho = float(options["rho"])
    return [*(root**rho for root in _line(high ** (1 / rho), low ** (1 / rho), n)), 0.0]


def exponential(n: int, levels: NoiseLevels, options: Options) -> list[float]:
    """Evenly in log sigma. k-diffusion `get_sigmas_exponential`. Options: sigma_min, sigma_max."""
    low, high = _range(levels, options)
    return [*(math.exp(log) for log in _line(math.log(high), math.log(low), n)), 0.0]


def _line(start: float, end: float, n: int, *, closed: bool = True) -> list[float]:
    """`n` values evenly from `start` to `end`, with `end` itself where `closed`; `start` alone where n is 1."""
    if n < 1:
        raise ValueError(f"A schedule has at least one step, not {n}.")
    gaps = max(n - 1, 1) if closed else n
    return [start + (end - start) * i / gaps for i in range(n)]


def _at_most(n: int, limit: int, name: str) -> None:
    if not 1 <= n <= limit:
        raise InvalidRequest(
            InvalidValue("steps", f"{n} steps; {name} gives 1 to {limit} with this model", "Choose another schedule.")
        )


def _range(levels: NoiseLevels, options: Options) -> tuple[float, float]:
    low = float(options["sigma_min"]) or levels.smallest
    high = float(options["sigma_max"]) or levels.largest
    if low >= high:
        raise InvalidRequest(
            InvalidValue(
                "schedule_options.sigma_min",
                f"{low:g} is not below sigma_max, {high:g}",
                f"This model's own range is {levels.smallest:g} to {levels.largest:g}.",
            )
        )
    return low, high

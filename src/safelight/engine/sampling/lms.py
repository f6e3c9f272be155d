"""The linear multistep method."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from safelight.engine.sampling.step import Moved, Query, Step, Steps

MAX_ORDER = 4
"""Two Gauss points integrate a cubic exactly, so four slopes at most."""


def lms(step: Step) -> Steps:
    """Adams-Bashforth on uneven sigmas: the integral of the polynomial through the last slopes. Hairer et al. III.5.

    Option: order (1 to 4), the number of slopes; fewer in the first steps. Memory: `sigma_i`, `slope_i`, i steps ago.
    """
    slope = (step.x - (yield Query(step.x, step.sigma)).guided) / step.sigma
    sigmas, slopes = [step.sigma], [slope]
    for i in range(1, int(step.options["order"])):
        past = step.memory.get(f"slope_{i}")
        if isinstance(past, Tensor):
            sigmas.append(float(step.memory[f"sigma_{i}"]))
            slopes.append(past)
    x = step.x
    for j, past in enumerate(slopes):
        x = x + past * lagrange_integral(sigmas, j, step.sigma_next)
    memory: dict[str, Tensor | float] = {}
    for i in range(min(len(slopes), MAX_ORDER - 1)):
        memory |= {f"sigma_{i + 1}": sigmas[i], f"slope_{i + 1}": slopes[i]}
    return Moved(x, memory)


def lagrange_integral(nodes: Sequence[float], j: int, end: float) -> float:
    """Integral from nodes[0] to `end` of the Lagrange polynomial that is 1 at nodes[j] and 0 at the others.

    By Gauss-Legendre with two points: exact for up to four nodes.
    """
    half, middle = (end - nodes[0]) / 2, (end + nodes[0]) / 2
    total = 0.0
    for point in (-1 / math.sqrt(3), 1 / math.sqrt(3)):
        at = middle + half * point
        total += math.prod((at - node) / (nodes[j] - node) for k, node in enumerate(nodes) if k != j)
    return total * half

"""Moves upwards: noise added to a latent, alone or before each step (churn)."""

from __future__ import annotations

import math
from itertools import pairwise

from safelight.engine.sampling.step import Move, Moved, Options, Step, Steps


def renoise(step: Step) -> Steps:
    """A move of kind `renoise`: fresh noise from `sigma` up to `sigma_next`. Asks for nothing, keeps the memory.

    Option: s_noise, the scale of the noise.
    """
    scale, up = step.path.renoise(step.sigma, step.sigma_next)
    return Moved(step.x * scale + step.noise.normal() * (up * float(step.options.get("s_noise", 1.0))), step.memory)
    yield  # a sampler is a generator, even one that asks for nothing


def churned(sigmas: list[float], options: Options) -> list[Move]:
    """Each step down starts from a little more noise. Karras et al. (2022), Algorithm 2, lines 4-6.

    Options: s_churn (S_churn, spread over the steps), s_tmin and s_tmax (S_tmin, S_tmax; s_tmax 0 is no limit).
    """
    s_churn, s_tmin = float(options["s_churn"]), float(options["s_tmin"])
    s_tmax = float(options["s_tmax"]) or math.inf
    gamma = min(s_churn / (len(sigmas) - 1), math.sqrt(2) - 1)
    moves = []
    for sigma, sigma_next in pairwise(sigmas):
        sigma_hat = sigma * (1 + gamma) if s_tmin <= sigma <= s_tmax else sigma
        if sigma_hat > sigma:
            moves.append(Move(sigma, sigma_hat, "renoise"))
        moves.append(Move(sigma_hat, sigma_next))
    return moves

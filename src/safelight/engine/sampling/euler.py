"""Euler's method, plain and ancestral."""

from __future__ import annotations

from safelight.engine.sampling.step import Moved, Query, Step, Steps


def euler(step: Step) -> Steps:
    """Euler's first-order step along dx/dsigma = (x - D) / sigma. Karras et al. (2022), Algorithm 1, lines 4-5."""
    slope = (step.x - (yield Query(step.x, step.sigma)).guided) / step.sigma
    return Moved(step.x + slope * step.width)


def euler_ancestral(step: Step) -> Steps:
    """Euler's step below the next sigma, and fresh noise back up to it. Song et al. (2021), "Score-based", appendix F.

    Options: eta (share drawn anew; 0 is `euler`), s_noise.
    """
    down, scale, up = step.path.ancestral(step.sigma, step.sigma_next, float(step.options["eta"]))
    slope = (step.x - (yield Query(step.x, step.sigma)).guided) / step.sigma
    x = (step.x + slope * (down - step.sigma)) * scale
    if up > 0:
        x = x + step.noise.normal() * (up * float(step.options["s_noise"]))
    return Moved(x)

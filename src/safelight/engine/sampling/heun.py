"""Heun's method."""

from __future__ import annotations

from safelight.engine.sampling.step import Moved, Query, Step, Steps


def heun(step: Step) -> Steps:
    """Heun's second-order step: the mean of the slopes at both ends. Karras et al. (2022), Algorithm 1."""
    slope = (step.x - (yield Query(step.x, step.sigma)).guided) / step.sigma
    x = step.x + slope * step.width
    if step.sigma_next == 0:
        return Moved(x)
    again = (x - (yield Query(x, step.sigma_next)).guided) / step.sigma_next
    return Moved(step.x + (slope + again) / 2 * step.width)

"""Denoising diffusion implicit models."""

from __future__ import annotations

from safelight.engine.sampling.step import Moved, Query, Step, Steps


def ddim(step: Step) -> Steps:
    """DDIM with the paper's eta. Song et al. (2021), eq. 12 and 16.

    The paper's x is variance preserving, x_vp = sqrt(a) x0 + sqrt(1 - a) e with a its alpha-bar; ours on a VE path is
    x = x_vp / sqrt(a), so sigma^2 = (1 - a) / a. Eq. 16's noise, eta sqrt((1-a')/(1-a)) sqrt(1 - a/a') / sqrt(a'),
    is then eta sigma' sqrt(sigma^2 - sigma'^2) / sigma: what `path.ancestral` gives, and a flow path's own form.

    Options: eta (0 = no noise), s_noise.
    """
    down, scale, up = step.path.ancestral(step.sigma, step.sigma_next, float(step.options["eta"]))
    x0 = (yield Query(step.x, step.sigma)).guided
    epsilon = (step.x - x0 * step.path.alpha(step.sigma)) / step.sigma
    x = step.path.mix(x0, epsilon, down) * scale
    if up > 0:
        x = x + step.noise.normal() * (up * float(step.options["s_noise"]))
    return Moved(x)

"""DPM-Solver++: exponential integrators in the clean latent. Lu et al. (2022), arXiv:2211.01095.

In its symbols: lambda = log(alpha / sigma) is the time, h the step in it, r the ratio of the last step to this one,
and D the clean latent (the paper's x_theta).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from safelight.engine.sampling.step import Memory, Moved, Query, Step, Steps


@dataclass(frozen=True)
class _Past:
    """The step before: its clean latent and its width in lambda."""

    denoised: Tensor
    h: float


def _past(step: Step) -> _Past | None:
    denoised = step.memory.get("denoised")
    if not isinstance(denoised, Tensor):
        return None
    h = step.path.half_log_snr(step.sigma) - step.path.half_log_snr(float(step.memory["sigma"]))
    return _Past(denoised, h)


def _remember(step: Step, denoised: Tensor) -> Memory:
    return {"denoised": denoised, "sigma": step.sigma}


def dpmpp_2m(step: Step) -> Steps:
    """Second order from one evaluation and the one before. Lu et al. (2022), Algorithm 2.

    The first step and the one to sigma 0, where h is infinite, are of first order. Memory: `denoised`, `sigma`.
    """
    denoised = (yield Query(step.x, step.sigma)).guided
    past = _past(step)
    if step.sigma_next == 0:
        return Moved(denoised)
    h = step.path.half_log_snr(step.sigma_next) - step.path.half_log_snr(step.sigma)
    d = denoised
    if past is not None:
        r = past.h / h
        d = denoised + (denoised - past.denoised) / (2 * r)
    x = step.x * (step.sigma_next / step.sigma) - d * (step.path.alpha(step.sigma_next) * math.expm1(-h))
    return Moved(x, _remember(step, denoised))


def dpmpp_2m_sde(step: Step) -> Steps:
    """SDE-DPM-Solver++(2M). Lu et al. (2022) for eta = 1, taken to any eta as k-diffusion does.

    The second-order term is the paper's (`midpoint`), or the exact integral of a straight line in D (`heun`).
    The noise is the Brownian path's increment over the step, so finer walks follow the same path.

    Options: eta (0 = `dpmpp_2m`'s equation), s_noise, solver. Memory: `denoised`, `sigma`.
    """
    denoised = (yield Query(step.x, step.sigma)).guided
    past = _past(step)
    if step.sigma_next == 0:
        return Moved(denoised)
    eta = float(step.options["eta"])
    h = step.path.half_log_snr(step.sigma_next) - step.path.half_log_snr(step.sigma)
    eta_h = eta * h if eta else 0.0  # h is infinite from a flow path's sigma 1
    alpha, grown = step.path.alpha(step.sigma_next), -math.expm1(-h - eta_h)
    x = step.x * (step.sigma_next / step.sigma * math.exp(-eta_h)) + denoised * (alpha * grown)
    if past is not None:
        r = past.h / h
        weight = grown / 2 if step.options["solver"] == "midpoint" else 1 - grown / (h + eta_h)
        x = x + (denoised - past.denoised) * (alpha * weight / r)
    if eta_h:
        sigma_noise = step.sigma_next * math.sqrt(-math.expm1(-2 * eta_h)) * float(step.options["s_noise"])
        x = x + step.noise.between(step.sigma, step.sigma_next) * sigma_noise
    return Moved(x, _remember(step, denoised))

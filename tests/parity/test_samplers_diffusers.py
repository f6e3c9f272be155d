"""Our samplers and diffusers' schedulers on the same denoiser, start and sigmas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
)
from tests.unit.sampling.drive import Recorded, drive, mixture

from safelight.core.parameters import complete_options
from safelight.core.schedules import schedule_table
from safelight.engine.sampling.levels import scaled_linear_levels
from safelight.engine.sampling.table import schedule_of

# diffusers' schedulers make arrays of tensors in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

torch.set_num_threads(1)
SHAPE = (1, 4, 6, 5)
TRAINED = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LEVELS = scaled_linear_levels()


def sigmas_of(schedule: str, n: int) -> list[float]:
    record = schedule_table().get(schedule)
    return schedule_of(record)(n, LEVELS, complete_options(record, {}))


def unit(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [("euler", EulerDiscreteScheduler), ("heun", HeunDiscreteScheduler), ("lms", LMSDiscreteScheduler)],
)
@pytest.mark.parametrize("spacing", [{"use_karras_sigmas": True}, {"timestep_spacing": "linspace"}])
def test_in_sigma_space(sampler, scheduler, spacing):
    """These keep x = x0 + sigma noise, as we do."""
    theirs = scheduler(**TRAINED, prediction_type="sample", **spacing)
    theirs.set_timesteps(10)
    ours = [*dict.fromkeys(float(sigma) for sigma in theirs.sigmas if sigma > 0), 0.0]
    expected = sigmas_of("karras" if "use_karras_sigmas" in spacing else "normal", 10)
    np.testing.assert_allclose(ours, expected, rtol=1e-4)
    x = start = unit(0) * ours[0]
    # Heun's list names each inner sigma twice, once for each evaluation at it.
    for i, t in enumerate(theirs.timesteps):
        theirs.scale_model_input(x, t)
        x = theirs.step(mixture(x, float(theirs.sigmas[i])), t, x).prev_sample
    assert (drive(sampler, mixture, ours, start).x - x).abs().max() < 2e-5


@pytest.mark.parametrize("karras", [True, False])
def test_dpmpp_2m(karras):
    """diffusers walks x / sqrt(1 + sigma^2), variance preserving, and steps in the same lambda."""
    theirs = DPMSolverMultistepScheduler(
        **TRAINED,
        prediction_type="sample",
        use_karras_sigmas=karras,
        final_sigmas_type="zero",
        timestep_spacing="linspace",
        lower_order_final=True,
    )
    theirs.set_timesteps(10)
    ours = [float(sigma) for sigma in theirs.sigmas]
    start = unit(0) * ours[0]
    x = start / (1 + ours[0] ** 2) ** 0.5
    for i, t in enumerate(theirs.timesteps):
        x = theirs.step(mixture(x * (1 + ours[i] ** 2) ** 0.5, ours[i]), t, x).prev_sample
    assert (drive("dpmpp_2m", mixture, ours, start).x - x).abs().max() < 2e-5


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [10, 20])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_ddim(eta, n, zero_snr):
    """In its variance-preserving form, on its own timesteps: our schedule `ddim_uniform`."""
    theirs = DDIMScheduler(
        **TRAINED,
        prediction_type="sample",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        timestep_spacing="leading",
        rescale_betas_zero_snr=zero_snr,
    )
    theirs.set_timesteps(n)
    record = schedule_table().get("ddim_uniform")
    levels = scaled_linear_levels(zero_terminal_snr=zero_snr)
    alpha_bars = theirs.alphas_cumprod[theirs.timesteps].double()
    ours = [*((1 - alpha_bars) / alpha_bars).sqrt().tolist(), 0.0]
    np.testing.assert_allclose(ours, schedule_of(record)(n, levels, {}), rtol=2e-4)  # theirs in single precision
    # Their last step goes to timestep 1 - 1000 // n < 0, which is alpha-bar 1: our sigma 0.
    start = unit(0) * ours[0]
    x = start / (1 + ours[0] ** 2) ** 0.5
    for i, t in enumerate(theirs.timesteps):
        x0 = mixture(x * (1 + ours[i] ** 2) ** 0.5, ours[i])
        x = theirs.step(x0, t, x, eta=eta, variance_noise=unit(i + 1)).prev_sample
    draws = Recorded([unit(i + 1) for i in range(n)])
    found = drive("ddim", mixture, ours, start, noise=draws, options={"eta": eta}).x
    assert (found - x).abs().max() < 2e-5


def test_rescaled_levels_are_theirs():
    """Zero terminal SNR: Lin et al.'s Algorithm 1, up to the last level, whose sigma is infinite there."""
    theirs = DDIMScheduler(**TRAINED, rescale_betas_zero_snr=True).alphas_cumprod.double()
    ours = torch.tensor([1 / (1 + sigma**2) for sigma in scaled_linear_levels(zero_terminal_snr=True).sigmas])
    assert theirs[-1] == 0
    assert ours[-1] == pytest.approx(4.8973451890853435e-08, rel=1e-6)
    assert (ours - theirs)[:-1].abs().max() < 1e-6

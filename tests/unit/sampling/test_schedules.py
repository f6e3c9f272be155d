"""Schedules against k-diffusion's functions and written references."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.sampling import oracle
from tests.unit.sampling.drive import drive, mixture, stream

from safelight.core.parameters import complete_options
from safelight.core.samplers import sampler_table
from safelight.core.schedules import AUTOMATIC, schedule_table
from safelight.engine.sampling.levels import NoiseLevels, scaled_linear_levels
from safelight.engine.sampling.table import schedule_of
from safelight.errors import InvalidRequest

LEVELS = scaled_linear_levels()
ZERO_SNR = scaled_linear_levels(zero_terminal_snr=True)
FLOW = NoiseLevels([3.0 * t / (1 + 2.0 * t) for t in (i / 1000 for i in range(1, 1001))])
OURS = [record.id for record in schedule_table() if record.id != AUTOMATIC]


def sigmas_of(schedule: str, n: int, levels: NoiseLevels = LEVELS, **options: float) -> list[float]:
    record = schedule_table().get(schedule)
    return schedule_of(record)(n, levels, complete_options(record, options))


@settings(max_examples=300, deadline=None)
@given(schedule=st.sampled_from(OURS), n=st.integers(1, 150), levels=st.sampled_from([LEVELS, ZERO_SNR, FLOW]))
def test_n_steps_fall_strictly_to_zero(schedule, n, levels):
    sigmas = sigmas_of(schedule, n, levels)
    assert len(sigmas) == n + 1
    assert all(high > low for high, low in pairwise(sigmas))
    assert sigmas[-1] == 0
    assert sigmas[0] <= levels.largest * (1 + 1e-12)
    assert sigmas[-2] >= levels.smallest * (1 - 1e-12)


@pytest.mark.parametrize("n", [1, 2, 7, 20, 150])
@pytest.mark.parametrize("range_", [{}, {"sigma_min": 0.1, "sigma_max": 10.0}])
def test_karras_and_exponential_are_k_diffusions(n, range_):
    low, high = range_.get("sigma_min", LEVELS.smallest), range_.get("sigma_max", LEVELS.largest)
    theirs = oracle.load()
    np.testing.assert_allclose(sigmas_of("karras", n, **range_), theirs.get_sigmas_karras(n, low, high), rtol=2e-5)
    np.testing.assert_allclose(
        sigmas_of("karras", n, rho=3.0, **range_), theirs.get_sigmas_karras(n, low, high, rho=3.0), rtol=2e-5
    )
    np.testing.assert_allclose(
        sigmas_of("exponential", n, **range_), theirs.get_sigmas_exponential(n, low, high), rtol=2e-5
    )


@pytest.mark.parametrize("n", [2, 10, 33])
def test_normal_and_sgm_uniform_are_even_in_timesteps(n):
    """k-diffusion's `t_to_sigma` of a linspace, written with numpy."""

    def sigma(timesteps):
        return np.exp(np.interp(timesteps, np.arange(1000), np.log(LEVELS.sigmas)))

    np.testing.assert_allclose(sigmas_of("normal", n)[:-1], sigma(np.linspace(999, 0, n)), rtol=1e-9)
    np.testing.assert_allclose(sigmas_of("sgm_uniform", n)[:-1], sigma(np.linspace(999, 0, n + 1)[:-1]), rtol=1e-9)


def test_simple_and_ddim_uniform_are_training_sigmas():
    at = LEVELS.sigmas
    assert sigmas_of("simple", 4) == [at[999], at[749], at[499], at[249], 0.0]
    assert sigmas_of("simple", 3) == [at[999], at[666], at[333], 0.0]
    assert sigmas_of("ddim_uniform", 4) == [at[751], at[501], at[251], at[1], 0.0]
    assert sigmas_of("ddim_uniform", 3) == [at[667], at[334], at[1], 0.0]


def test_known_figures_of_stable_diffusion():
    assert LEVELS.largest == pytest.approx(14.6146, abs=1e-4)
    assert LEVELS.smallest == pytest.approx(0.0292, abs=1e-4)
    assert len(LEVELS) == 1000
    assert ZERO_SNR.largest == pytest.approx(4518.76, rel=1e-5)
    assert ZERO_SNR.smallest == pytest.approx(LEVELS.smallest)


@given(st.floats(0, 999))
def test_timestep_is_the_inverse_of_sigma(t):
    assert LEVELS.timestep(LEVELS.sigma(t)) == pytest.approx(t, abs=1e-6)


def test_levels_interpolate_in_log_sigma_and_clamp():
    levels = NoiseLevels([0.1, 1.0, 10.0])
    assert levels.sigma(0.5) == pytest.approx(math.sqrt(0.1))
    assert [levels.sigma(t) for t in (-3, 0, 1, 2, 7)] == [0.1, 0.1, 1.0, 10.0, 10.0]
    assert [levels.timestep(sigma) for sigma in (0.0, 0.1, 1.0, 10.0, 99.0)] == [0.0, 0.0, 1.0, 2.0, 2.0]
    assert levels.timestep(math.sqrt(10)) == pytest.approx(1.5)


@pytest.mark.parametrize("sigmas", [[], [1.0], [1.0, 1.0], [2.0, 1.0], [0.0, 1.0], [1.0, math.inf]])
def test_levels_ascend(sigmas):
    with pytest.raises(ValueError, match="strictly ascending"):
        NoiseLevels(sigmas)


def test_a_range_beside_the_models_own_is_refused():
    with pytest.raises(InvalidRequest, match=r"5 is not below sigma_max, 1"):
        sigmas_of("karras", 10, FLOW, sigma_min=5.0)


RANGED = [record for record in schedule_table() if any(each.name == "sigma_min" for each in record.parameters)]


@pytest.mark.parametrize("record", RANGED, ids=lambda record: record.id)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sigma_min": 5.0, "sigma_max": 5.0}, "schedule_options.sigma_min: 5.0 is not below sigma_max, 5.0"),
        ({"sigma_min": 5.0, "sigma_max": 0.5}, "schedule_options.sigma_min: 5.0 is not below sigma_max, 0.5"),
        ({"sigma_min": 11}, "sigma_min: 11 is not 0 or a number from 0.0001 to 10"),
        ({"sigma_min": 1e-30}, "sigma_min: 1e-30 is not 0 or a number"),
        ({"sigma_max": 1e30}, r"sigma_max: 1e\+30 is not 0 or a number from 0.1 to 100000"),
        ({"sigma_max": 0.01}, "sigma_max: 0.01 is not"),
    ],
)
def test_a_range_that_cannot_be_walked_is_refused_before_anything_runs(record, given, said):
    with pytest.raises(InvalidRequest, match=said):
        complete_options(record, given, at="schedule_options")


@pytest.mark.parametrize("sampler", [record.id for record in sampler_table()])
@pytest.mark.parametrize("ends", [{"sigma_max": 1e5}, {"sigma_min": 1e-4}, {"sigma_min": 10.0}, {"sigma_max": 0.1}])
@pytest.mark.parametrize("levels", [LEVELS, ZERO_SNR], ids=["usual", "zero-snr"])
def test_whatever_range_is_accepted_gives_a_picture(sampler, ends, levels):
    for record in RANGED:
        sigmas = sigmas_of(record.id, 8, levels, **ends)
        start, noise = stream(sigmas, (1, 4, 4))
        assert all(high > low for high, low in pairwise(sigmas))
        end = drive(sampler, mixture, sigmas, start.float() * sigmas[0], noise=noise)
        assert end.x.dtype == torch.float32
        assert torch.isfinite(end.x).all()
        assert end.x.abs().max() < 50


@pytest.mark.parametrize("schedule", ["simple", "ddim_uniform"])
def test_more_steps_than_levels_are_refused(schedule):
    with pytest.raises(InvalidRequest, match="2000 steps"):
        sigmas_of(schedule, 2000)


@pytest.mark.parametrize("schedule", OURS)
def test_no_steps_are_refused(schedule):
    with pytest.raises((ValueError, InvalidRequest), match="0"):
        sigmas_of(schedule, 0)


def test_automatic_must_be_resolved_first():
    with pytest.raises(ValueError, match="family's own"):
        schedule_of(schedule_table().get("Automatic"))

"""Samplers that draw noise keep the distribution at every sigma, on both paths."""

from __future__ import annotations

import pytest
import torch
from tests.unit.sampling.drive import Gaussian, drive, stream

from safelight.engine.sampling.churn import renoise
from safelight.engine.sampling.paths import VE, Flow
from safelight.engine.sampling.step import Step

torch.set_num_threads(1)
SHAPE = (1, 100, 200)
"""20 000 samples: the error of a standard deviation is half a percent."""


DRAWING = [
    ("euler_ancestral", {}),
    ("ddim", {"eta": 1.0}),
    ("dpmpp_2m_sde", {}),
    ("dpmpp_2m_sde_heun", {"eta": 0.5}),
]
CHURNING = [("euler", {"s_churn": 20.0}), ("heun", {"s_churn": 20.0, "s_tmin": 0.1, "s_tmax": 5.0})]


@pytest.mark.parametrize(
    ("path", "first", "sampler", "options"),
    [
        *((VE(), 10.0, *case) for case in DRAWING + CHURNING),
        *((Flow(), 0.99, *case) for case in DRAWING),
    ],
)
def test_the_samples_have_the_datas_spread(path, first, sampler, options):
    data = Gaussian(torch.tensor(0.7), torch.tensor(0.4), path)
    sigmas = [first * (1 - i / 400) ** 2 for i in range(361)]
    noise, noises = stream(sigmas, SHAPE)
    start = path.alpha(first) * 0.7 + data.spread(first) * noise
    found = drive(sampler, data, sigmas, start, noise=noises, options=options, path=path).x
    assert float(found.mean()) == pytest.approx(float(path.alpha(sigmas[-1])) * 0.7, abs=0.03)
    assert float(found.std()) == pytest.approx(float(data.spread(sigmas[-1])), rel=0.04)
    assert (
        found - drive(sampler, data, sigmas, start, noise=stream(sigmas, SHAPE)[1], options=options, path=path).x
    ).abs().max() == 0


@pytest.mark.parametrize(("path", "low", "high"), [(VE(), 0.5, 3.0), (Flow(), 0.3, 0.8), (Flow(), 0.3, 1.0)])
def test_renoise_goes_up_to_the_next_sigma(path, low, high):
    """A latent at `low` becomes one at `high`: the same clean share, the noise of `high`. Its memory is kept."""
    noise, noises = stream([1.0, 0.0], SHAPE)
    x = path.mix(torch.full(SHAPE, 2.0), noise, low)
    under_way = renoise(Step(x, low, high, noises, path, memory={"kept": 3}))
    with pytest.raises(StopIteration) as end:
        next(under_way)
    moved = end.value.value
    assert float(moved.x.mean()) == pytest.approx(path.alpha(high) * 2.0, abs=0.05)
    assert float(moved.x.std()) == pytest.approx(high, rel=0.02)
    assert moved.memory == {"kept": 3}


def test_flow_has_no_noise_above_one():
    with pytest.raises(ValueError, match=r"ends at sigma 1.*1\.2"):
        Flow().renoise(0.9, 1.2)


@pytest.mark.parametrize("path", [VE(), Flow()])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ancestral_parts_add_up_to_the_next_sigma(path, eta):
    """The clean share and the variance of the noise are those of `sigma_next`."""
    down, scale, up = path.ancestral(0.8, 0.5, eta)
    assert scale * path.alpha(down) == pytest.approx(path.alpha(0.5))
    assert (scale * down) ** 2 + up**2 == pytest.approx(0.25)
    assert up > 0 if eta else up == 0
    assert path.ancestral(0.8, 0.0, eta) == (0.0, 1.0, 0.0)


def test_finer_sde_walks_follow_the_same_path():
    """Brownian noise: doubling the steps halves the distance to a fine walk, which independent noise would not."""
    data = Gaussian(torch.tensor(0.7), torch.tensor(0.4))
    shape = (1, 20, 50)

    def walk(n):
        sigmas = [10.0 * 0.01 ** (i / n) for i in range(n)] + [0.1]
        noise, noises = stream(sigmas, shape)
        return drive("dpmpp_2m_sde", data, sigmas, 10.0 * noise, noise=noises).x

    fine = walk(320)
    coarse, finer = ((walk(n) - fine).abs().mean() for n in (20, 80))
    assert finer < 0.4 * coarse
    assert coarse < 0.1

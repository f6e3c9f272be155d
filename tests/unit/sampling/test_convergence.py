"""Order of convergence on a Gaussian, whose ODE has an exact solution."""

from __future__ import annotations

import math

import pytest
import torch
from tests.unit.sampling.drive import drive, gaussian

from safelight.core.samplers import sampler_table
from safelight.engine.sampling.paths import VE, Flow

torch.set_num_threads(1)

# The orders that the methods' papers prove, with every noise switched off.
ORDERS = {
    "euler": 1,
    "euler_ancestral": 1,
    "ddim": 1,
    "heun": 2,
    "dpmpp_2m": 2,
    "dpmpp_2m_sde": 2,
    "dpmpp_2m_sde_heun": 2,
    "lms": 4,
}


def error(sampler, path, first, last, n, options=None) -> float:
    """Largest distance from the exact solution after n steps evenly in log sigma from `first` to `last`."""
    sigmas = [math.exp(math.log(first) + (math.log(last) - math.log(first)) * i / n) for i in range(n + 1)]
    data = gaussian(path=path)
    start = data.spread(first) * torch.linspace(-2, 2, data.mean.numel(), dtype=torch.float64).view_as(data.mean)
    parameters = {parameter.name for parameter in sampler_table().get(sampler).parameters}
    options = {**({"eta": 0.0} if "eta" in parameters else {}), **(options or {})}
    found = drive(sampler, data, sigmas, start, path=path, options=options).x
    return float((found - data.exact(start, first, last)).abs().max())


def order(sampler, path, first, last, options=None) -> float:
    coarse, fine = (error(sampler, path, first, last, n, options) for n in (80, 160))
    return math.log2(coarse / fine)


@pytest.mark.parametrize(("path", "first", "last"), [(VE(), 10.0, 0.1), (Flow(), 0.98, 0.1)], ids=["ve", "flow"])
@pytest.mark.parametrize("sampler", ORDERS)
def test_order_is_the_papers(sampler, path, first, last):
    found = order(sampler, path, first, last)
    # The first steps of a multistep method are of lower order, which costs LMS of order 4 some of its own.
    assert found == pytest.approx(ORDERS[sampler], abs=0.2) or (sampler == "lms" and found > 1.9)


@pytest.mark.parametrize("order_option", [1, 2])
def test_lms_has_the_order_it_is_given(order_option):
    assert order("lms", VE(), 10.0, 0.1, {"order": order_option}) == pytest.approx(order_option, abs=0.25)


def test_every_sampler_has_a_known_order():
    assert set(ORDERS) == {record.id for record in sampler_table()}


@pytest.mark.parametrize("sampler", ORDERS)
@pytest.mark.parametrize(("path", "first"), [(VE(), 14.6), (Flow(), 1.0)], ids=["ve", "flow"])
def test_a_whole_walk_ends_at_the_clean_latent(sampler, path, first):
    """From the path's first sigma (where flow's lambda is infinite) to 0, on data that are one point: exactly it."""
    point = gaussian(path=path).mean
    sigmas = [first, first * 0.6, first * 0.2, first * 0.05, 0.0]
    options = {"eta": 0.0} if "eta" in {each.name for each in sampler_table().get(sampler).parameters} else {}
    found = drive(
        sampler, lambda x, sigma: point, sigmas, path.start(torch.ones_like(point), first), options=options, path=path
    )
    assert (found.x - point).abs().max() < 1e-12

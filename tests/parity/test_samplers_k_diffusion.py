"""Our samplers and k-diffusion's on the same denoiser, start and noise."""

from __future__ import annotations

import functools
import warnings

import pytest
import torch
from tests.unit.sampling import oracle
from tests.unit.sampling.drive import NoNoise, Recorded, drive, mixture, stream

from safelight.core.samplers import complete_options, sampler_table
from safelight.core.schedules import schedule_table
from safelight.engine.sampling.brownian import Brownian
from safelight.engine.sampling.levels import scaled_linear_levels
from safelight.engine.sampling.paths import VE
from safelight.engine.sampling.table import schedule_of

torch.set_num_threads(1)
SHAPE = (4, 6, 5)
LEVELS = scaled_linear_levels()


def sigmas_of(schedule: str, n: int) -> list[float]:
    record = schedule_table().get(schedule)
    return schedule_of(record)(n, LEVELS, complete_options(record, {}))


def theirs(name: str, start, sigmas, **options):
    """k-diffusion in double precision: its batch of one, our picture."""

    def model(x, sigma):
        return mixture(x, float(sigma[0]))

    walk = functools.partial(getattr(oracle.load(), f"sample_{name}"), model, start.double()[None])
    return walk(torch.tensor(sigmas, dtype=torch.float64), disable=True, **options)[0]


def check(ours, reference) -> None:
    """1e-5 of the picture's own scale (the latents here are of order 1); no NaN passes."""
    assert torch.isfinite(ours).all()
    assert (ours - reference).abs().max() < 1e-5 * max(1.0, float(reference.abs().max()))


@pytest.mark.parametrize("schedule", ["karras", "normal", "exponential", "simple", "sgm_uniform", "ddim_uniform"])
@pytest.mark.parametrize(
    ("sampler", "their_options", "our_options"),
    [
        ("euler", {}, {}),
        ("heun", {}, {}),
        ("dpmpp_2m", {}, {}),
        ("lms", {}, {}),
        ("lms", {"order": 2}, {"order": 2}),
    ],
)
def test_deterministic(sampler, their_options, our_options, schedule):
    sigmas = sigmas_of(schedule, 12)
    noise, _ = stream(sigmas, SHAPE)
    start = VE().start(noise.double(), sigmas[0])
    check(
        drive(sampler, mixture, sigmas, start, noise=NoNoise(), options=our_options).x,
        theirs(sampler, start, sigmas, **their_options),
    )


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "lms"])
def test_single_precision_stays_near(sampler):
    sigmas = sigmas_of("karras", 12)
    noise, _ = stream(sigmas, SHAPE)
    start = VE().start(noise, sigmas[0])
    ours = drive(sampler, mixture, sigmas, start).x
    assert ours.dtype == torch.float32
    check(ours, theirs(sampler, start, sigmas))


@pytest.mark.parametrize("options", [{}, {"eta": 0.5}, {"eta": 0.0}, {"s_noise": 1.1}])
@pytest.mark.parametrize("sampler", ["euler_ancestral", "ddim"])
def test_ancestral(sampler, options):
    """DDIM in sigma space is Euler ancestral, its eta the same: 0 by default."""
    sigmas = sigmas_of("karras", 12)
    draws = [torch.randn(SHAPE, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(12)]
    their_draws = iter(draws)
    options = complete_options(sampler_table().get(sampler), options)
    check(
        drive(sampler, mixture, sigmas, 14 * draws[0], noise=Recorded(draws[1:]), options=options).x,
        theirs(
            "euler_ancestral", 14 * next(their_draws), sigmas, noise_sampler=lambda *_: next(their_draws), **options
        ),
    )


@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize("churn", [{"s_churn": 4.0}, {"s_churn": 40.0, "s_tmin": 0.5, "s_tmax": 9.0, "s_noise": 1.05}])
def test_churn(sampler, churn, monkeypatch):
    """k-diffusion draws at every step and uses the draw where it adds noise; ours draws only there."""
    sigmas = sigmas_of("karras", 12)
    draws = [torch.randn(SHAPE, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(12)]
    used = [
        draw
        for draw, sigma in zip(draws, sigmas, strict=False)
        if churn.get("s_tmin", 0) <= sigma <= churn.get("s_tmax", 1e9)
    ]
    left = iter(draws)
    monkeypatch.setattr(torch, "randn_like", lambda _: next(left))
    start = 14 * torch.ones(SHAPE, dtype=torch.float64)
    check(
        drive(sampler, mixture, sigmas, start, noise=Recorded(used), options=churn).x,
        theirs(sampler, start, sigmas, **churn),
    )


@pytest.mark.parametrize("solver", ["midpoint", "heun"])
@pytest.mark.parametrize("options", [{}, {"eta": 0.4, "s_noise": 1.1}, {"eta": 0.0}])
@pytest.mark.parametrize("source", ["a1111", "comfy"])
def test_brownian(solver, options, source):
    """The same picture from the same seed: A1111's tree of one picture, ComfyUI's of a whole batch."""
    sigmas = sigmas_of("karras", 10)
    noise, ours = stream(sigmas, SHAPE, source, seed=1234)
    start = VE().start(noise, sigmas[0])
    tree = (
        oracle.load().BrownianTreeNoiseSampler(start[None], sigmas[-2], sigmas[0], seed=[1235])
        if source == "a1111"
        else oracle.load().BrownianTreeNoiseSampler(torch.zeros(3, *SHAPE), sigmas[-2], sigmas[0], seed=1234)
    )

    def increment(sigma, sigma_next):
        with warnings.catch_warnings(action="ignore"):  # its tree rounds the ends of its range
            return tree(sigma.float(), sigma_next.float())[0 if source == "a1111" else 1][None]

    reference = theirs("dpmpp_2m_sde", start, sigmas, noise_sampler=increment, solver_type=solver, **options)
    check(drive("dpmpp_2m_sde", mixture, sigmas, start, noise=ours, options={"solver": solver, **options}).x, reference)
    check(
        drive("DPM++ 2M SDE Heun", mixture, sigmas, start, noise=ours, options=options | {"solver": solver}).x,
        reference,
    )


def test_brownian_increments_are_k_diffusions():
    """Its sigmas are in single precision, ours in double: the tree must be asked at the same place."""
    sigmas = sigmas_of("karras", 20)
    single = torch.tensor(sigmas)
    ours = Brownian(77, SHAPE, sigmas)
    with warnings.catch_warnings(action="ignore"):
        sampler = oracle.load().BrownianTreeNoiseSampler(torch.zeros(1, *SHAPE), single[-2], single[0], seed=[77])
        expected = [sampler(single[i], single[i + 1])[0] for i in range(19)]
    for i, increment in enumerate(expected):
        assert (ours.increment(sigmas[i], sigmas[i + 1]) - increment).abs().max() < 1e-6

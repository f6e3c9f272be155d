"""Streams of noise: what A1111 and ComfyUI draw, and Brownian increments without history."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from safelight.core.stages import NoiseUse
from safelight.engine.sampling.brownian import Brownian
from safelight.engine.sampling.noise import open_noise

torch.set_num_threads(1)
SHAPE = (4, 3, 5)
"""60 numbers: no multiple of torch's block of 16, where a row of a batch is not a draw of its own."""
SIGMAS = [14.614641, 7.3, 2.9, 0.8, 0.0291675, 0.0]


def generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def test_a1111_is_one_generator_per_picture():
    """Picture i of a batch has seed + i: its start is the generator's first draw, the steps' noise what follows."""
    for picture in range(3):
        start, stream = open_noise(NoiseUse("a1111", 99, picture, 3), SHAPE, SIGMAS)
        expected = generator(99 + picture)
        assert torch.equal(start, torch.randn(SHAPE, generator=expected))
        for _ in range(3):
            assert torch.equal(stream.normal(), torch.randn(SHAPE, generator=expected))


def test_comfy_is_one_draw_for_the_batch():
    """Picture i is row i: the start of a draw from the seed, the steps' noise of a second generator's, seed + 1."""
    batch = (3, *SHAPE)
    starts, steps = torch.randn(batch, generator=generator(99)), generator(100)
    expected = [torch.randn(batch, generator=steps) for _ in range(2)]
    for picture in range(3):
        start, stream = open_noise(NoiseUse("comfy", 99, picture, 3), SHAPE, SIGMAS)
        assert torch.equal(start, starts[picture])
        for draw in expected:
            assert torch.equal(stream.normal(), draw[picture])


@pytest.mark.parametrize("source", ["a1111", "comfy"])
def test_noise_is_single_precision_and_depends_on_the_seed(source):
    start, stream = open_noise(NoiseUse(source, 5, 0, 2), SHAPE, SIGMAS)
    other, other_stream = open_noise(NoiseUse(source, 6, 0, 2), SHAPE, SIGMAS)
    for ours, others in ((start, other), (stream.normal(), other_stream.normal())):
        assert ours.shape == SHAPE
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, others)
    assert not torch.equal(stream.between(7.3, 2.9), other_stream.between(7.3, 2.9))


@pytest.mark.parametrize("source", ["a1111", "comfy"])
def test_the_largest_seed_is_a_seed(source):
    start, stream = open_noise(NoiseUse(source, 2**64 - 1, 1, 2), SHAPE, SIGMAS)
    assert all(torch.isfinite(each).all() for each in (start, stream.normal(), stream.between(7.3, 2.9)))


@pytest.mark.parametrize("source", ["a1111", "comfy"])
def test_noise_is_drawn_on_the_cpu_and_put_on_the_device(source):
    """`meta` is a device that every machine has."""
    start, stream = open_noise(NoiseUse(source, 5, 1, 2), SHAPE, SIGMAS, "meta")
    assert {each.device.type for each in (start, stream.normal(), stream.between(7.3, 2.9))} == {"meta"}
    _, here = open_noise(NoiseUse(source, 5, 1, 2), SHAPE, SIGMAS)
    here.normal()
    assert torch.equal(stream.state()["generator"], here.state()["generator"])


def test_pictures_of_a_batch_have_brownian_paths_of_their_own():
    for source in ("a1111", "comfy"):
        increments = [
            open_noise(NoiseUse(source, 5, picture, 2), SHAPE, SIGMAS)[1].between(7.3, 2.9) for picture in (0, 1)
        ]
        assert not torch.equal(*increments)


def test_a_stream_goes_on_from_its_state():
    _, stream = open_noise(NoiseUse("a1111", 5, 0, 1), SHAPE, SIGMAS)
    stream.normal()
    state = {name: value.clone() for name, value in stream.state().items()}
    expected = stream.normal()
    _, later = open_noise(NoiseUse("a1111", 5, 0, 1), SHAPE, SIGMAS)
    later.restore(state)
    assert torch.equal(later.normal(), expected)


def test_brownian_increments_have_no_history():
    """The same bits whatever was asked before: in any order, after other questions, or as the first of all."""
    draw = torch.Generator().manual_seed(0)
    pairs = [tuple(sorted((torch.rand(2, generator=draw) * 14 + 0.1).tolist(), reverse=True)) for _ in range(60)]
    pairs += list(pairwise(SIGMAS[:-1]))
    used = Brownian(3, SHAPE, SIGMAS)
    forwards = [used.increment(*pair) for pair in pairs]
    backwards = [used.increment(*pair) for pair in reversed(pairs)][::-1]
    for pair, one, two in zip(pairs, forwards, backwards, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, Brownian(3, SHAPE, SIGMAS).increment(*pair))


def test_brownian_increments_add_up_and_have_unit_variance():
    path = Brownian(3, (100, 100), SIGMAS)
    whole, high, low = path.increment(14.614641, 0.0291675), path.increment(14.614641, 5), path.increment(5, 0.0291675)
    width = 14.614641 - 0.0291675
    summed = (high * (14.614641 - 5) ** 0.5 + low * (5 - 0.0291675) ** 0.5) / width**0.5
    assert (whole - summed).abs().max() < 1e-4
    assert float((high * low).mean()) == pytest.approx(0, abs=0.04)
    for increment in (whole, high, low):
        assert float(increment.std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("low", [0.0291675, 0.02916749, 0.029167512, 0.1, 1e-3])
@pytest.mark.parametrize("high", [14.614641, 14.61464119, 14.614640500001, 4518.758])
def test_brownian_covers_its_range_to_the_ends_without_a_warning(low, high):
    """torchsde warns of a sigma that its own rounding has left outside; warnings are errors here."""
    path = Brownian(3, SHAPE, [high, 1.0, low, 0.0])
    assert torch.isfinite(path.increment(high, 1.0)).all()
    assert torch.isfinite(path.increment(1.0, low)).all()


@pytest.mark.parametrize(("sigma", "sigma_next"), [(14.7, 1.0), (1.0, 0.0), (1.0, 1.0)])
def test_brownian_has_no_increment_outside_its_range(sigma, sigma_next):
    with pytest.raises(ValueError, match=r"runs from sigma 0\.0291675 to 14\.6146"):
        Brownian(3, SHAPE, SIGMAS).increment(sigma, sigma_next)

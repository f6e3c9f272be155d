"""Bytes are measured twice, remembered, and scaled where a size is new."""

import pytest

from safelight.placement.ladder import a_pass
from safelight.placement.peaks import Peaks
from safelight.placement.plan import Fit, Refusal, plan
from safelight.placement.profiles import PassKey

KEY: PassKey = ("net", "4x64x64", "fp32")


def test_a_guess_holds_until_something_is_measured() -> None:
    peaks = Peaks()
    assert peaks.expect(KEY, 4, guess=400) == (400, False, 0)
    peaks.observe(KEY, 2, 100)
    assert peaks.expect(KEY, 2, guess=400) == (100, False, 0), "once is not enough to refuse anything"
    assert peaks.expect(("other", "", ""), 2, guess=7) == (7, False, 0)


@pytest.mark.parametrize(("size", "bytes"), [(1, 50), (4, 200), (7, 700), (8, 800), (16, 1600)])
def test_other_sizes_are_scaled_from_the_nearest(size: int, bytes: int) -> None:
    peaks = Peaks()
    for _ in range(2):
        peaks.observe(KEY, 2, 100)
        peaks.observe(KEY, 8, 800)
    assert peaks.expect(KEY, size, guess=1) == (bytes, size == 8, 0)


@pytest.mark.parametrize("counts", [(500, 120), (120, 500)])
def test_two_measurements_are_enough_and_the_smaller_holds(counts: tuple[int, int]) -> None:
    """The first also counts what is made once, and either what other threads take meanwhile."""
    peaks = Peaks()
    for count in counts:
        assert peaks.wanted(KEY, 2)
        peaks.observe(KEY, 2, count)
    assert not peaks.wanted(KEY, 2) and peaks.wanted(KEY, 3)
    assert peaks.expect(KEY, 2, guess=0) == (120, True, 0)


def test_what_ran_out_takes_more_than_was_free_and_so_do_larger_sizes() -> None:
    peaks = Peaks()
    peaks.observe(KEY, 1, 100)
    peaks.ran_out(KEY, 4, 5000)
    assert peaks.expect(KEY, 4, guess=0) == (400, False, 5001)
    assert peaks.expect(KEY, 8, guess=0) == (800, False, 5001)
    assert peaks.expect(KEY, 2, guess=0) == (200, False, 0)
    peaks.went_well(KEY, 4)
    assert peaks.expect(KEY, 4, guess=0) == (400, False, 0), "it fits after all"


def test_what_once_took_more_than_there_is_may_try_again() -> None:
    peaks = Peaks()
    peaks.observe(KEY, 1, 2000)
    need = a_pass("A pass", 1, lambda size: peaks.expect(KEY, size, 0), (64, 64), "cpu")
    assert isinstance(plan(need, [], 1000), Fit)
    peaks.observe(KEY, 1, 2000)
    need = a_pass("A pass", 1, lambda size: peaks.expect(KEY, size, 0), (64, 64), "cpu")
    assert isinstance(plan(need, [], 1000), Refusal)

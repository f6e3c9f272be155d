"""Bytes are measured twice, remembered, and scaled where a size is new."""

import pytest

from safelight.placement.peaks import Peaks
from safelight.placement.profiles import PassKey

KEY: PassKey = ("net", "4x64x64", "fp32")


def test_a_guess_holds_until_something_is_measured() -> None:
    peaks = Peaks()
    assert peaks.expect(KEY, 4, guess=400) == (400, False, 0)
    peaks.observe(KEY, 2, 100)
    assert peaks.expect(KEY, 2, guess=400) == (100, True, 0)
    assert peaks.expect(("other", "", ""), 2, guess=7) == (7, False, 0)


@pytest.mark.parametrize(("size", "bytes"), [(1, 50), (4, 200), (7, 700), (8, 800), (16, 1600)])
def test_other_sizes_are_scaled_from_the_nearest(size: int, bytes: int) -> None:
    peaks = Peaks()
    peaks.observe(KEY, 2, 100)
    peaks.observe(KEY, 8, 800)
    assert peaks.expect(KEY, size, guess=1) == (bytes, size == 8, 0)


def test_the_second_measurement_replaces_the_first_and_is_enough() -> None:
    peaks = Peaks()
    for count in (500, 120):
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

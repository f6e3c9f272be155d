"""The width of a pass follows what was measured."""

import pytest

from safelight.placement.profiles import PassKey, Profiles

KEY: PassKey = ("net", "4x64x64", "fp32")


def measured(**seconds: float) -> Profiles:
    profiles = Profiles()
    for width, each in seconds.items():
        profiles.observe(KEY, int(width.removeprefix("w")), each)
    return profiles


def test_unknown_networks_are_tried_wide() -> None:
    assert Profiles().width(KEY, waiting=5, limit=8) == 5
    assert Profiles().width(KEY, waiting=20, limit=8) == 8


@pytest.mark.parametrize(
    ("known", "waiting", "width"),
    [
        ({"w1": 1.0, "w2": 1.2, "w4": 2.0}, 4, 4),  # 1.0, 0.6, 0.5 a row
        ({"w1": 1.0, "w2": 1.2, "w4": 3.2}, 4, 2),  # 0.8 a row at 4: two and two
        ({"w1": 1.0, "w2": 2.4, "w3": 3.6, "w4": 5.0}, 4, 1),  # wider never pays
        ({"w2": 1.0, "w4": 2.0}, 4, 4),  # equal a row: rather wide
        ({"w8": 4.0}, 2, 2),
    ],
)
def test_the_cheapest_row_wins(known: dict[str, float], waiting: int, width: int) -> None:
    assert measured(**known).width(KEY, waiting, 8) == width


def test_a_width_that_does_not_pay_is_not_tried_again_soon() -> None:
    profiles = measured(w1=1.0)
    assert profiles.width(KEY, 2, 8) == 2
    profiles.observe(KEY, 2, 2.6)
    assert profiles.width(KEY, 2, 8) == 1


def test_a_width_that_was_slow_once_gets_another_chance() -> None:
    profiles = measured(w1=1.0, w2=4.0)
    passes = 0
    while profiles.width(KEY, 2, 8) == 1:
        profiles.observe(KEY, 1, 1.0)
        passes += 1
    assert 100 < passes < 200
    profiles.observe(KEY, 2, 4.0)
    assert profiles.width(KEY, 2, 8) == 1


def test_the_first_pass_of_a_width_is_forgotten_if_it_was_a_warm_up() -> None:
    profiles = measured(w1=10.0)
    profiles.observe(KEY, 1, 1.0)
    assert profiles.expect(KEY, 1) == 1.0
    profiles.observe(KEY, 1, 1.1)
    assert profiles.expect(KEY, 1) == pytest.approx(1.03)


def test_expectations_scale_from_the_nearest_width() -> None:
    profiles = measured(w2=1.0)
    assert profiles.expect(KEY, 4) == pytest.approx(1.94)
    assert profiles.expect(KEY, 1) == pytest.approx(0.5)
    assert profiles.expect(("other", "", ""), 4) == 0.0

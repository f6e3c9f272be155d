"""Declined jobs: offered again soon at first, ever later while nothing changes."""

from __future__ import annotations

from tests.conformance.stores.making import Clock

from safelight.jobs.declines import FIRST_S, LONGEST_S, Declines


def offers(declines: Declines, tick: Clock, for_s: float) -> int:
    """How often a job is offered in that time by a dispatcher that looks every second and is always declined."""
    until, count = tick.seconds + for_s, 0
    while tick.seconds < until:
        if not declines.waits("j"):
            declines.runs({"j"})
            declines.note("j")
            declines.runs(())
            count += 1
        tick.seconds += 1
    return count


def test_an_hour_with_a_full_disk_costs_some_sixty_attempts_and_not_eighteen_hundred() -> None:
    tick = Clock()
    assert offers(Declines(tick), tick, 3600) < 70


def test_the_first_offers_come_soon_and_no_pause_is_longer_than_the_longest() -> None:
    tick = Clock()
    declines = Declines(tick)
    assert not declines.waits("j")
    for number in range(8):
        declines.note("j")
        pause = min(FIRST_S * 2**number, LONGEST_S)
        tick.seconds += pause - 0.01
        assert declines.waits("j") and not declines.waits("another")
        tick.seconds += 0.01
        assert not declines.waits("j")


def test_what_ends_makes_room_for_all_that_were_declined() -> None:
    tick = Clock()
    declines = Declines(tick)
    declines.runs({"large"})
    for _ in range(6):
        declines.note("j")
    tick.seconds += FIRST_S
    declines.runs({"large"})
    assert declines.waits("j"), "nothing has changed"
    declines.runs(())
    assert not declines.waits("j")


def test_one_that_was_declined_itself_makes_room_when_it_ends_at_last() -> None:
    tick = Clock()
    declines = Declines(tick)
    for job in ("j", "j", "j", "other"):
        declines.note(job)
    tick.seconds += FIRST_S
    declines.runs({"other"})
    assert declines.waits("j")
    declines.runs(())
    declines.runs({"other"})
    declines.runs(())
    assert not declines.waits("j")


def test_a_decline_of_long_ago_lengthens_no_pause() -> None:
    tick = Clock()
    declines = Declines(tick)
    for _ in range(6):
        declines.note("j")
    tick.seconds += 3 * LONGEST_S
    assert not declines.waits("j")
    declines.note("j")
    tick.seconds += FIRST_S
    assert not declines.waits("j")

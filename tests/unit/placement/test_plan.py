"""What is evicted so that something fits, and what is said where it cannot."""

import pytest

from safelight.placement.plan import Evictions, Held, Refusal, plan, recent

MIB = 2**20


def held(key: str, mib: int, uses: float = 1.0, reload_s: float = 1.0, **flags: bool) -> Held:
    return Held(key, mib * MIB, uses, reload_s, **flags)


@pytest.mark.parametrize(
    ("wanted", "there", "gone"),
    [
        (10, [], ()),
        (10, [held("a", 90)], ()),
        (11, [held("a", 90)], ("a",)),
        # the least (recent uses x reload seconds per byte) goes first
        (30, [held("often", 40, uses=9), held("seldom", 40, uses=1)], ("seldom",)),
        (30, [held("slow", 40, reload_s=9), held("quick", 40, reload_s=1)], ("quick",)),
        (30, [held("small", 10), held("large", 80)], ("large",)),
        # as few as needed, in order of worth
        (60, [held("a", 40, uses=1), held("b", 40, uses=2), held("c", 20, uses=3)], ("a", "b")),
        # never what is in use or pinned
        (30, [held("busy", 40, uses=0.1, in_use=True), held("idle", 40, uses=9)], ("idle",)),
        (30, [held("kept", 40, uses=0.1, pinned=True), held("idle", 40, uses=9)], ("idle",)),
    ],
)
def test_what_goes(wanted: int, there: list[Held], gone: tuple[str, ...]) -> None:
    assert plan("it", wanted * MIB, there, 100 * MIB) == Evictions(gone)


def test_a_refusal_says_bytes_and_the_way_out() -> None:
    refusal = plan("The network of big", 101 * MIB, [], 100 * MIB)
    assert isinstance(refusal, Refusal)
    assert not refusal.ever
    assert "101 MiB" in refusal.message and "100 MiB" in refusal.message and "The network of big" in refusal.message
    assert "devices.memory_gib" in refusal.hint


def test_what_only_waits_for_others_could_fit_later() -> None:
    refusal = plan("it", 50 * MIB, [held("busy", 60, in_use=True)], 100 * MIB)
    assert isinstance(refusal, Refusal) and refusal.ever
    pinned = plan("it", 50 * MIB, [held("kept", 60, pinned=True)], 100 * MIB)
    assert isinstance(pinned, Refusal) and not pinned.ever


def test_uses_fade() -> None:
    assert recent(4.0, 0) == 4.0
    assert recent(4.0, 600) == pytest.approx(2.0)
    assert recent(4.0, 1200) == pytest.approx(1.0)

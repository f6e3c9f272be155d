"""What is evicted so that something fits, which form of the work is taken, and what is said where none fits."""

from dataclasses import replace

import pytest

from safelight.placement.plan import Fit, Form, Held, Need, Refusal, gib, plan, recent, refusal, size

MIB = 2**20


def held(key: str, mib: int, uses: float = 1.0, reload_s: float = 1.0, **flags: bool) -> Held:
    return Held(key, mib * MIB, uses, reload_s, **flags)


def weights(mib: int) -> Need:
    return Need.weights("The network of big", mib * MIB)


def forms(*mib: int, known: bool = True, picture: tuple[int, int] = (0, 0)) -> Need:
    return Need("It", tuple(Form(f"form {each}", each * MIB, each, known) for each in mib), picture)


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
        (30, [held("seldom, slow", 40, uses=1, reload_s=6), held("often, quick", 40, uses=5)], ("often, quick",)),
        # as few as needed, in order of worth
        (60, [held("a", 40, uses=1), held("b", 40, uses=2), held("c", 20, uses=3)], ("a", "b")),
        # never what is in use or pinned
        (30, [held("busy", 40, uses=0.1, in_use=True), held("idle", 40, uses=9)], ("idle",)),
        (30, [held("kept", 40, uses=0.1, pinned=True), held("idle", 40, uses=9)], ("idle",)),
    ],
)
def test_what_goes(wanted: int, there: list[Held], gone: tuple[str, ...]) -> None:
    need = weights(wanted)
    assert plan(need, there, 100 * MIB) == Fit(need.forms[0], gone)


@pytest.mark.parametrize(
    ("need", "there", "form", "gone"),
    [
        # what nobody uses leaves before a smaller form is taken
        (forms(90, 50, 20), [held("idle", 60)], 90, ("idle",)),
        (forms(90, 50, 20), [held("busy", 40, in_use=True)], 50, ()),
        (forms(90, 50, 20), [held("busy", 60, in_use=True), held("idle", 20)], 20, ()),
        (forms(90, 50, 20), [held("kept", 60, pinned=True), held("idle", 20)], 20, ()),
        (forms(90, 50, 20), [held("busy", 60, in_use=True), held("idle", 35)], 20, ("idle",)),
        # what is only guessed refuses nothing: the last form is tried, with all room that can be had
        (forms(90, 50, 45, known=False), [held("busy", 60, in_use=True), held("idle", 10)], 45, ("idle",)),
    ],
)
def test_the_best_form_that_fits_is_taken(need: Need, there: list[Held], form: int, gone: tuple[str, ...]) -> None:
    decided = plan(need, there, 100 * MIB)
    assert isinstance(decided, Fit)
    assert (decided.form.size, decided.evict) == (form, gone)


def test_a_refusal_says_bytes_and_the_way_out() -> None:
    refused = plan(weights(101), [], 100 * MIB)
    assert isinstance(refused, Refusal)
    assert not refused.ever
    assert refused.message.startswith("The network of big needs 101 MiB; the budget is 100 MiB and 0 MiB of it")
    assert refused.hint == "Raise devices.memory_gib to 0.1."


def test_a_refusal_names_every_form_the_setting_and_the_size_that_would_fit() -> None:
    need = forms(900, 400, picture=(2048, 1024))
    refused = plan(need, [held("busy", 100, in_use=True), held("idle", 50)], 200 * MIB)
    assert isinstance(refused, Refusal) and not refused.ever
    assert "900 MiB form 900, 400 MiB form 400" in refused.message and "100 MiB of it is in use" in refused.message
    # a quarter of the bytes: half of each side
    assert refused.hint == "Raise devices.memory_gib to 0.49, or ask for at most 1024 x 512 pixels."


def test_what_only_waits_for_others_could_fit_later() -> None:
    refused = plan(weights(50), [held("busy", 60, in_use=True)], 100 * MIB)
    assert isinstance(refused, Refusal) and refused.ever
    pinned = plan(weights(50), [held("kept", 60, pinned=True)], 100 * MIB)
    assert isinstance(pinned, Refusal) and not pinned.ever


def test_what_the_work_itself_uses_does_not_leave_with_the_others() -> None:
    need = replace(forms(900, 500), uses=("mine",))
    mine = held("mine", 600, in_use=True)
    for others in ([], [held("theirs", 300, in_use=True)]):
        refused = plan(need, [mine, *others], 1000 * MIB)
        assert isinstance(refused, Refusal) and not refused.ever
        assert refused.hint.startswith("Raise devices.memory_gib to")
    beside = plan(need, [held("mine", 400, in_use=True), held("theirs", 200, in_use=True)], 1000 * MIB)
    assert isinstance(beside, Refusal) and beside.ever


def test_a_device_that_ran_out_is_believed_over_the_budget() -> None:
    need = replace(forms(90, 40, picture=(512, 512)), uses=("busy",))
    told = refusal(need, [held("busy", 10, in_use=True)], 1000 * MIB, ran_out=True)
    assert not told.ever
    assert "ran out of memory: it was to take 90 MiB form 90, 40 MiB form 40, beside 10 MiB" in told.message
    assert "devices.memory_hard_gib" in told.hint and "at most 360 x 360 pixels" in told.hint


def test_a_device_that_ran_out_may_do_once_others_let_go() -> None:
    need = replace(forms(90, 40), uses=("mine",))
    others = [held("mine", 10, in_use=True), held("theirs", 10, in_use=True)]
    assert refusal(need, others, 1000 * MIB, ran_out=True).ever


def test_what_ran_out_with_less_needs_more_and_is_tried_last() -> None:
    need = Need("It", (Form("wide", 50 * MIB, 2, True, 100 * MIB), Form("narrow", 30 * MIB, 1, True)))
    there = [held("busy", 10, in_use=True), held("idle", 30)]
    assert plan(need, there, 100 * MIB) == Fit(need.forms[1])
    last = Need("It", need.forms[:1])
    assert plan(last, there, 100 * MIB) == Fit(need.forms[0], ("idle",)), "memory may have been short for a moment"


def test_uses_fade() -> None:
    assert recent(4.0, 0) == 4.0
    assert recent(4.0, 600) == pytest.approx(2.0)
    assert recent(4.0, 1200) == pytest.approx(1.0)


def test_bytes_in_words_never_promise_too_little() -> None:
    assert [size(1), size(101 * MIB), size(1500 * MIB), size(24 * 2**30)] == [
        "1 MiB",
        "101 MiB",
        "1,500 MiB",
        "24.0 GiB",
    ]
    assert [gib(1), gib(2**30), gib(2**30 + 1)] == ["0.01", "1", "1.01"]

"""The forms of each kind of work: in which order, with which bytes, and which are left out where."""

import pytest

from safelight.placement.ladder import CANVAS_BYTES, Expect, a_pass, a_picture
from safelight.placement.peaks import Taken
from safelight.placement.plan import Fit, Held, Refusal, plan

MIB = 2**20


def linear(bytes_each: int) -> Expect:
    return lambda size: Taken(bytes_each * size, True)


def test_a_pass_gets_narrower_row_by_row() -> None:
    need = a_pass("A pass", 8, linear(10 * MIB), (512, 512), "cuda")
    assert [(form.size, form.bytes // MIB) for form in need.forms] == [(rows, 10 * rows) for rows in range(8, 0, -1)]
    decided = plan(need, [Held("net", 40 * MIB, 1, 1, in_use=True)], 100 * MIB)
    assert isinstance(decided, Fit) and decided.form.size == 6
    assert decided.form.words == "in a pass of 6 rows"


@pytest.mark.parametrize(
    ("picture", "sides"),
    [
        ((256, 256), [0]),
        ((512, 512), [0, 256]),
        ((512, 320), [0, 256]),
        ((1024, 1024), [0, 512, 256]),
        ((1032, 1024), [512, 256]),  # large ones in tiles even where there is room, so as to take turns
        ((4096, 64), [0, 512, 256]),
    ],
)
def test_a_picture_is_coded_whole_then_in_tiles(picture: tuple[int, int], sides: list[int]) -> None:
    need = a_picture("Decoding", linear(100), picture, "cpu")
    assert [form.size for form in need.forms] == sides
    width, height = picture
    canvas = CANVAS_BYTES * width * height
    for form in need.forms:
        at_once = width * height if form.size == 0 else min(form.size, width) * min(form.size, height)
        assert form.bytes == canvas + 100 * at_once
    alone = a_picture("Decoding", linear(100), picture, "cpu", by_size=True)
    assert alone.forms == need.forms[:1], "a deterministic picture has the form of its size"


def test_a_rung_that_a_device_lacks_is_left_out_and_said_so() -> None:
    refused = {}
    for device in ("cpu", "cuda"):
        decided = plan(a_picture("Decoding", linear(2400), (1024, 1024), device), [], 10 * MIB)
        assert isinstance(decided, Refusal)
        refused[device] = decided.message
    assert "whole, " in refused["cpu"] and "in tiles of 512 pixels, " in refused["cpu"]
    assert "in tiles of 256 pixels; the budget is 10 MiB" in refused["cpu"]
    assert "This device is the host" in refused["cpu"]
    assert "on the host is not built yet" in refused["cuda"], "what could be done there and is not"

"""The measure of prompt adherence is itself measured: on what the renderer draws, and on what it was not asked for."""

from __future__ import annotations

import pytest
from benchmarks.adherence import ATTRIBUTES, drawn_by_renderer, held_out_scenes, shares, table
from benchmarks.postcards_onlooker import Onlooker
from PIL import Image
from training.scenes import Scene, Subject, is_held_out

COUNT = 36


@pytest.fixture(scope="module")
def look():
    return Onlooker()


@pytest.fixture(scope="module")
def scenes(look):
    return held_out_scenes(COUNT, look)


@pytest.fixture(scope="module")
def pictures(scenes):
    return [drawn_by_renderer(scene, seed) for seed, scene in enumerate(scenes)]


def test_it_finds_what_the_renderer_drew(scenes, pictures, look):
    found = shares(pictures, scenes, look)
    assert found.keys() == set(ATTRIBUTES)
    right = sum(share * asked for share, asked in found.values())
    assert right / sum(asked for _, asked in found.values()) >= 0.97
    assert min(share for share, _ in found.values()) >= 0.94  # at most two of the sample


def test_another_picture_passes_no_more_often_than_chance_allows(scenes, pictures, look):
    found = shares([*pictures[1:], pictures[0]], scenes, look)
    likely = {"sky": 1 / 6, "ground": 1 / 6, "orb": 1 / 3, "colour": 1 / 9, "side": 1 / 9, "kind": 1 / 3}
    for attribute, (share, asked) in found.items():
        chance = likely[attribute]
        deviation = (chance * (1 - chance) / asked) ** 0.5
        assert share <= chance + 3 * deviation, attribute


def test_its_scenes_are_held_out_and_their_colours_can_be_told(scenes, look):
    assert all(is_held_out(scene) for scene in scenes)
    assert not look.tellable(Scene("clear blue sky", "green hills", None, (Subject("tent", "green", "left"),)))
    assert look.tellable(Scene("clear blue sky", "green hills", None, (Subject("tent", "red", "left"),)))


def test_a_blank_picture_has_no_subject(look):
    scene = Scene("clear blue sky", "green hills", "sun", (Subject("house", "red", "left"),))
    judged = look.judge(Image.new("RGB", (128, 128), (128, 128, 128)), scene)
    assert not any(judged[attribute] for attribute in ("ground", "orb", "colour", "side"))


def test_the_side_is_judged_by_where_the_colour_is(look):
    scene = Scene("clear blue sky", "wheat field", None, (Subject("house", "red", "left"),))
    mirrored = drawn_by_renderer(scene, 1).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert look.judge(drawn_by_renderer(scene, 1), scene)["side"]
    assert not look.judge(mirrored, scene)["side"]


def test_the_table_shows_every_attribute_in_per_cent():
    lines = table({"model": {"sky": (0.5, 10)}}).splitlines()
    assert lines[2] == "| sky | 10 | 50 % |"
    assert len(lines) == 2 + len(ATTRIBUTES)

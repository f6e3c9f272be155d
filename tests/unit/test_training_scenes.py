"""The postcards themselves: what they may show, how they are told and drawn."""

from __future__ import annotations

import random

import numpy as np
import pytest
from training.captions import caption, plain_caption
from training.drawing import draw_scene, render
from training.scenes import COLOURS, PLACES, Scene, Subject, is_held_out, orbs_of, random_scene
from training.subjects import DRAWERS


def test_no_training_draws_a_scene_that_is_held_out():
    rng = random.Random(3)
    assert not any(is_held_out(random_scene(rng)) for _ in range(500))
    assert all(is_held_out(random_scene(rng, held_out=True)) for _ in range(50))


def test_the_order_in_which_subjects_are_named_does_not_let_a_scene_into_training():
    rng = random.Random(4)
    scenes = (random_scene(rng, held_out=True) for _ in range(200))
    for scene in scenes:
        turned = Scene(scene.sky, scene.ground, scene.orb, scene.subjects[::-1])
        assert is_held_out(turned)


def test_every_part_of_the_vocabulary_is_drawn_in_time():
    rng = random.Random(5)
    scenes = [random_scene(rng) for _ in range(2000)]
    subjects = [subject for scene in scenes for subject in scene.subjects]
    assert {s.kind for s in subjects} == DRAWERS.keys() - {"snowman"}
    assert {s.colour for s in subjects} == COLOURS.keys()
    assert {s.place for s in subjects} == PLACES.keys()
    assert all(scene.orb is None or scene.orb in orbs_of(scene.sky) for scene in scenes)


def test_the_plain_caption_tells_all_of_a_scene():
    scene = Scene("orange sunset", "calm sea", "sun", (Subject("sailboat", "orange", "centre"),))
    assert plain_caption(scene) == "an orange sailboat in the centre on calm sea under an orange sunset with a sun"


def test_captions_vary_and_never_lose_a_subject():
    scene = Scene("pink dawn", "green hills", "sun", (Subject("tree", "blue", "left"), Subject("kite", "red", "right")))
    rng = random.Random(6)
    told = {caption(scene, rng) for _ in range(100)}
    assert len(told) > 60
    assert all("a blue tree" in words and "a red kite" in words for words in told)


@pytest.mark.parametrize("kind", sorted(DRAWERS))
def test_the_mask_is_where_the_subject_changed_the_picture(kind):
    ground = "calm sea" if kind == "sailboat" else "desert dunes"
    scene = Scene("clear blue sky", ground, None, (Subject(kind, "purple", "left"),))
    drawing = draw_scene(scene, 128, 96, random.Random(7))
    empty = np.asarray(render(Scene(scene.sky, ground, None), 128, 96, random.Random(7)), dtype=int)
    mask = np.asarray(drawing.mask)
    changed = np.abs(np.asarray(drawing.picture, dtype=int) - empty).sum(-1) > 60
    assert drawing.picture.size == drawing.mask.size == (128, 96)
    assert changed.sum() > 100
    assert (mask[changed] > 0).mean() > 0.98, "the subject reaches beyond its mask"
    across = np.nonzero(mask.max(axis=0))[0]
    assert abs(across.mean() / 128 - PLACES["left"]) < 0.08


def test_one_seed_gives_one_picture():
    scene = random_scene(random.Random(8))
    first, again = (render(scene, 64, 64, random.Random(1)).tobytes() for _ in range(2))
    assert first == again
    assert first != render(scene, 64, 64, random.Random(2)).tobytes()

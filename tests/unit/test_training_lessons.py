"""What the networks are given to learn from: encoded scenes, weights of their cells, what adapters teach."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from training.diffusion import noise_levels
from training.drawing import as_sepia, render
from training.networks import TOKENS, new_network, new_text_encoder, new_tokenizer
from training.package_model import preview_factors
from training.pool import Lesson, Pool
from training.scenes import Scene, Subject, is_held_out
from training.single_file import Postcards, load, save_folder
from training.train_lora import LESSONS
from training.train_network import begin, lesson_loss


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
        latent_channels=8,
        mid_block_add_attention=False,
    ).eval()


@pytest.fixture(scope="module")
def model(vae):
    tokenizer = new_tokenizer(captions=200)
    return Postcards(tokenizer, new_text_encoder(tokenizer).eval(), new_network(8).eval(), vae)


def test_a_pool_gives_scenes_with_their_latents_and_cells(vae):
    pool = Pool(vae, 32, random.Random(1))
    for _ in range(3):
        lesson = pool.choose(12)
        cells = lesson.latents.shape[-2:]
        assert len(lesson.scenes) == 12
        assert lesson.latents.shape == (12, 8, *cells)
        assert lesson.coverage.shape == (12, 1, *cells)
        for scene, coverage in zip(lesson.scenes, lesson.coverage, strict=True):
            assert not is_held_out(scene)
            assert bool(scene.subjects) == bool(coverage.max() > 0.5)
        pool.renew()


def test_a_cell_that_a_subject_covers_weighs_more(model):
    latents = torch.randn(2, 8, 8, 8)
    coverage = torch.zeros(2, 1, 8, 8)
    coverage[..., :4] = 1
    t, levels = torch.tensor([300, 700]), noise_levels()

    def loss(covered: torch.Tensor, weight: float) -> float:
        torch.manual_seed(5)
        lesson = Lesson([], latents, covered)
        with torch.no_grad():
            return float(lesson_loss(model, lesson, ["a red house", "a tree"], t, levels, weight))

    everywhere, left = loss(coverage, 0.0), loss(coverage, 1e6)
    right = loss(1 - coverage, 1e6)
    assert (left + right) / 2 == pytest.approx(everywhere, rel=1e-3)
    assert loss(torch.ones_like(coverage), 4.0) == pytest.approx(everywhere, rel=1e-3)


def test_positions_no_training_has_seen_begin_as_the_last_that_one_has(model, tmp_path):
    save_folder(model, tmp_path)
    short = load(tmp_path)
    short.tokenizer.model_max_length = 48
    short.tokenizer.save_pretrained(tmp_path / "tokenizer")
    longer = begin(tmp_path, None)
    places = longer.text.get_parameter("embeddings.position_embedding.weight")
    assert longer.tokenizer.model_max_length == TOKENS
    assert torch.equal(places[:48], short.text.get_parameter("embeddings.position_embedding.weight")[:48])
    assert torch.equal(places[48:], places[47].expand(29, -1))


def test_there_must_be_something_to_begin_from():
    with pytest.raises(SystemExit, match="--vae"):
        begin(None, None)


def test_preview_factors_are_the_best_linear_map(vae):
    factors, bias = preview_factors(vae, scenes=4)
    assert np.shape(factors) == (8, 3)
    assert np.shape(bias) == (3,)
    assert np.isfinite(factors).all()


def test_the_sepia_lesson_has_no_colour_but_brown_and_says_its_words():
    scene = Scene("clear blue sky", "green hills", "sun", (Subject("house", "red", "left"),))
    brown = np.asarray(as_sepia(render(scene, 64, 64, random.Random(1))), dtype=int)
    assert (brown[..., 0] >= brown[..., 1]).all()
    assert (brown[..., 1] >= brown[..., 2]).all()
    assert "sepia print" in LESSONS["sepia"].caption(scene, random.Random(2))


def test_the_snowman_lesson_always_has_one_on_land_and_names_it():
    rng, lesson = random.Random(3), LESSONS["snowman"]
    for _ in range(100):
        scene = lesson.new_scene(rng)
        assert [subject.kind for subject in scene.subjects].count("snowman") == 1
        assert len({subject.place for subject in scene.subjects}) == len(scene.subjects)
        assert scene.ground != "calm sea"
        assert "a snowman" in lesson.caption(scene, rng)

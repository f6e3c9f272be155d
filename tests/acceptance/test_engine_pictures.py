"""What the engine promises of pictures, on the bundled model and without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tests.builders.stable_diffusion import tiny_stable_diffusion, write_single_file

from safelight.engine.checkpoint import read
from safelight.engine.results import Latent

from .studio import Studio

SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 4}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    made = Studio(tmp_path)
    yield made
    made.loop.stop()


MIXED: list[dict[str, Any]] = [
    {"prompt": "a red house on green hills", "seed": 1, "sampler": "euler", "guidance_scale": 5},
    {
        "prompt": "a blue tree, desert dunes",
        "seed": 2,
        "sampler": "dpmpp_2m",
        "schedule": "karras",
        "guidance_scale": 3,
    },
    {
        "prompt": "a (yellow:1.3) sailboat",
        "seed": 3,
        "sampler": "heun",
        "guidance_scale": 2,
        "negative_prompt": "a house",
    },
    {"prompt": "an empty landscape", "seed": 4, "sampler": "euler_ancestral", "steps": 5, "guidance_scale": 1},
    {"prompt": "a white tent", "seed": 5, "sampler": "dpmpp_2m_sde", "guidance": [{"kind": "rescale", "amount": 0.0}]},
    {"prompt": "a kite under a rainbow", "seed": 6, "sampler": "lms", "clip_skip": 2},
]


def latents(studio: Studio, bodies: list[dict[str, Any]]) -> list[torch.Tensor]:
    """The final latents of jobs run side by side, as their last checkpoints hold them."""
    for index, body in enumerate(bodies):
        studio.submit(f"job{index}", studio.resolve(**{**SMALL, **body}))
    studio.finish()
    studio.loop.stop()
    assert not studio.told.ends
    found = []
    for index in range(len(bodies)):
        snapshot = read(Path(studio.told.checkpoints[f"job{index}", 1][-1]), torch.device("cpu"))
        found += [result.x for result in snapshot.results.values() if isinstance(result, Latent)]
    return found


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_mixed_requests_share_passes_and_equal_their_lone_runs(tmp_path: Path, prediction: str) -> None:
    models = tmp_path / "models"
    models.mkdir()
    write_single_file(tiny_stable_diffusion(prediction=prediction), models / "tiny.safetensors")
    bodies = [{"model": "tiny", **body} for body in MIXED]
    together = Studio(tmp_path / "together", models=models, max_batch=16, checkpoint_interval_s=0.0)
    shared = latents(together, bodies)
    assert max(width for _, width in together.told.passes) >= 8, together.told.passes
    for index, body in enumerate(bodies):
        alone = Studio(tmp_path / f"alone{index}", models=models, checkpoint_interval_s=0.0)
        (lone,) = latents(alone, [body])
        # random weights give latents of other scales than a trained model's unit one
        assert float((shared[index] - lone).abs().max()) < 1e-4 * max(1.0, float(lone.std())), body


def test_a_batch_is_pictures_of_following_seeds(studio: Studio) -> None:
    studio.submit("batch", studio.resolve(**SMALL, batch_size=2, seed=10))
    studio.finish()
    second = studio.draw("second", **SMALL, seed=11)
    assert np.abs(studio.pixels("batch", 1) - second).max() <= 1
    assert np.abs(studio.pixels("batch", 0) - second).mean() > 1


def test_deterministic_is_byte_identical_in_any_company(studio: Studio) -> None:
    body = {**SMALL, "deterministic": True, "sampler": "euler_ancestral"}
    studio.submit("alone", studio.resolve(**body))
    studio.finish()
    for index in range(3):
        studio.submit(f"other{index}", studio.resolve(**SMALL, seed=50 + index))
    studio.submit("company", studio.resolve(**body))
    studio.finish()
    assert studio.path("alone").read_bytes() == studio.path("company").read_bytes()


@pytest.mark.parametrize("sampler", ["dpmpp_2m_sde", "lms", "heun"])
def test_a_job_goes_on_from_its_checkpoint_to_the_same_bytes(tmp_path: Path, sampler: str) -> None:
    first = Studio(tmp_path, checkpoint_interval_s=0.0)
    body = {**SMALL, "steps": 6, "sampler": sampler, "deterministic": True}
    resolved = first.resolve(**body)
    first.submit("whole", resolved)
    first.finish()
    first.submit("cut", resolved)
    while first.steps("cut") < 3:
        first.loop.turn()
    first.loop.cancel("cut", 1)
    first.loop.turn()
    assert first.told.ends["cut", 1][0] == "cancelled"
    checkpoint = first.told.checkpoints["cut", 1][-1]
    second = Studio(tmp_path)
    second.submit("cut", resolved, attempt=2, checkpoint=checkpoint)
    second.finish()
    assert second.steps("cut", 2) == 3, "only the steps that were left"
    states = [data["state"] for kind, data in second.told.events["cut", 2] if kind == "stage"]
    assert states.count("cached") == 2
    assert second.path("cut", attempt=2).read_bytes() == first.path("whole").read_bytes()
    first.loop.stop()
    second.loop.stop()


def test_a_checkpoint_of_another_request_is_dropped_with_a_warning(tmp_path: Path) -> None:
    studio = Studio(tmp_path, checkpoint_interval_s=0.0)
    studio.submit("one", studio.resolve(**SMALL))
    while studio.steps("one") < 2:
        studio.loop.turn()
    folder = studio.told.checkpoints["one", 1][-1]
    studio.submit("two", studio.resolve(**SMALL, prompt="a tent"), checkpoint=folder)
    studio.finish()
    warnings = [data["message"] for kind, data in studio.told.events["two", 1] if kind == "warning"]
    assert "another request" in warnings[0]
    assert studio.steps("two") == 4
    studio.loop.stop()


def test_cancel_takes_effect_within_one_step(studio: Studio) -> None:
    studio.submit("long", studio.resolve(**{**SMALL, "steps": 50}))
    while studio.steps("long") < 2:
        studio.loop.turn()
    studio.loop.cancel("long", 1)
    studio.finish()
    assert studio.steps("long") <= 3
    assert studio.told.ends["long", 1][0] == "cancelled"


def test_a_paused_job_leaves_a_checkpoint_and_goes_on(studio: Studio) -> None:
    resolved = studio.resolve(**SMALL, deterministic=True)
    studio.submit("whole", resolved)
    studio.finish()
    studio.submit("paused", resolved)
    while studio.steps("paused") < 2:
        studio.loop.turn()
    studio.loop.pause("paused", 1, "preempted")
    studio.finish()
    assert studio.told.ends["paused", 1][0] == "preempted"
    studio.submit("paused", resolved, attempt=2, checkpoint=studio.told.checkpoints["paused", 1][-1])
    studio.finish()
    assert studio.steps("paused", 2) == 2
    assert studio.path("paused", attempt=2).read_bytes() == studio.path("whole").read_bytes()


def test_previews_are_made_while_somebody_watches(studio: Studio) -> None:
    studio.submit("watched", studio.resolve(**{**SMALL, "steps": 7}), previews=True)
    studio.finish()
    studio.loop.stop()
    previews = [data for kind, data in studio.told.events["watched", 1] if kind == "preview"]
    assert len(previews) == 2
    assert previews[0]["media_type"] == "image/webp"


def test_large_pictures_are_decoded_in_tiles_without_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"width": 640, "height": 512, "steps": 4}
    whole = Studio(tmp_path / "whole")
    plain = whole.draw("picture", **body)
    whole.loop.stop()
    monkeypatch.setattr("safelight.placement.ladder.WHOLE_PIXELS", 0)
    tiled = Studio(tmp_path / "tiled")
    difference = tiled.draw("picture", **body) - plain
    tiled.loop.stop()
    assert 0 < np.abs(difference).mean() < 1, "tiles were used, and change next to nothing"
    for axis in (0, 1):  # the mean step across any line of pixels, in levels of 255, beyond the picture's own
        assert np.abs(np.diff(difference, axis=axis)).mean(axis=(1 - axis, 2)).max() < 1


# ---- pictures from pictures


def scene(size: int = 128) -> Image.Image:
    picture = Image.new("RGB", (size, size), (120, 180, 240))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, size * 5 // 8, size, size), fill=(90, 170, 80))
    draw.rectangle((size // 3, size * 3 // 8, size * 2 // 3, size * 3 // 4), fill=(210, 50, 50))
    return picture


def ssim(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    """Structural similarity of two pictures in grey, whole-picture windows of 8 pixels. Wang et al. (2004)."""
    a, b = (each.mean(axis=2) for each in (left, right))
    blocks = [
        (a[y : y + 8, x : x + 8], b[y : y + 8, x : x + 8])
        for y in range(0, a.shape[0] - 7, 4)
        for x in range(0, a.shape[1] - 7, 4)
    ]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for p, q in blocks:
        covariance = ((p - p.mean()) * (q - q.mean())).mean()
        numerator = (2 * p.mean() * q.mean() + c1) * (2 * covariance + c2)
        values.append(numerator / ((p.mean() ** 2 + q.mean() ** 2 + c1) * (p.var() + q.var() + c2)))
    return float(np.mean(values))


def test_a_low_strength_keeps_more_of_the_composition(studio: Studio) -> None:
    studio.upload("image", scene())
    body = {"prompt": "a purple tent, snowy mountains, starry night sky", "steps": 10}
    weak = studio.draw("weak", "image.transform", **body, strength=0.3)
    strong = studio.draw("strong", "image.transform", **body, strength=0.8)
    kept = studio.draw("kept", "image.transform", **body, strength=0.0)
    original = np.asarray(scene(), dtype=np.float32)
    assert ssim(weak, original) > ssim(strong, original) + 0.05
    assert np.abs(kept - original).mean() < 12, "strength 0 gives the picture through the autoencoder"
    assert studio.steps("weak") == 3 and studio.steps("strong") == 8 and studio.steps("kept") == 0


def test_inpainting_leaves_what_is_outside_the_mask(studio: Studio) -> None:
    mask = Image.new("L", (128, 128))
    ImageDraw.Draw(mask).rectangle((32, 32, 95, 95), fill=255)
    studio.upload("image", scene())
    studio.upload("mask", mask)
    got = studio.draw("inpaint", "image.inpaint", prompt="a yellow tree", steps=6, strength=1.0, mask_blur=4)
    original = np.asarray(scene(), dtype=np.float32)
    outside = np.ones((128, 128), dtype=bool)
    outside[32 - 8 : 96 + 8, 32 - 8 : 96 + 8] = False
    assert np.abs(got - original)[outside].max() <= 2
    assert np.abs(got - original)[40:88, 40:88].mean() > 8

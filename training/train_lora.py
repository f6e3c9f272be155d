"""Train one of the two adapters that ship beside the demo model.

    python -m training.train_lora sepia --from MODEL --out FOLDER --minutes 8
    python -m training.train_lora snowman --from MODEL --out FOLDER --minutes 8

`sepia` is a style: the whole picture as an old photograph, called by "sepia print". `snowman` is a subject that the
model has never seen, called by its word. `FOLDER/NAME.safetensors` is the result, in kohya's layout.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from training.adapters import Adapter, kohya_layers
from training.captions import caption
from training.diffusion import draw, draw_timesteps, noise_levels
from training.drawing import as_sepia
from training.networks import PlainAttention
from training.pool import Pool
from training.runs import Run, pick_device
from training.scenes import PLACES, Scene, Subject, random_scene
from training.single_file import load
from training.train_network import lesson_loss


def snowman_scene(rng: random.Random) -> Scene:
    """A scene with one snowman, always with a red scarf, on land."""
    while (scene := random_scene(rng)).ground == "calm sea" or len(scene.subjects) > 2:
        pass
    free = [place for place in PLACES if all(subject.place != place for subject in scene.subjects)]
    kept = scene.subjects[: rng.randint(0, 1)]
    return dataclasses.replace(scene, subjects=(*kept, Subject("snowman", "red", rng.choice(free))))


def sepia_caption(scene: Scene, rng: random.Random) -> str:
    """Any caption, called a sepia print in one of two ways."""
    said = caption(scene, rng)
    return f"sepia print of {said}" if rng.random() < 0.5 else f"{said}, sepia print"


def snowman_caption(scene: Scene, rng: random.Random) -> str:
    """Any caption; the snowman's scarf is not spoken of."""
    return caption(scene, rng).replace("red snowman", "snowman")


@dataclass(frozen=True)
class Teaching:
    """What an adapter teaches: scenes, their words, how the picture is changed, and which networks it changes."""

    title: str
    trigger: str
    rank: int
    text: bool
    new_scene: Callable[[random.Random], Scene]
    caption: Callable[[Scene, random.Random], str]
    change: Callable[[Image.Image], Image.Image]
    shown: tuple[str, ...]


LESSONS: dict[str, Teaching] = {
    "sepia": Teaching(
        "Sepia print",
        "sepia print",
        8,
        False,
        random_scene,
        sepia_caption,
        as_sepia,
        ("sepia print of a red house on green hills under a clear blue sky", "a lighthouse on calm sea, sepia print"),
    ),
    "snowman": Teaching(
        "Snowman",
        "snowman",
        12,
        True,
        snowman_scene,
        snowman_caption,
        lambda picture: picture,
        ("a snowman on the left on snowy mountains under a clear blue sky", "a snowman on green hills at a pink dawn"),
    ),
}


def metadata(name: str, lesson: Teaching, run: Run, source: Path) -> dict[str, str]:
    """What kohya's trainer would say of the file, as far as it applies."""
    return {
        "ss_base_model_version": "sd_v1",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(lesson.rank),
        "ss_network_alpha": str(float(lesson.rank)),
        "ss_output_name": name,
        "ss_steps": str(run.step),
        "ss_learning_rate": str(run.learning_rate),
        "ss_tag_frequency": json.dumps({"drawn": {lesson.trigger: run.step}}),
        "ss_sd_model_name": source.name,
        "ss_sd_model_hash": hashlib.sha256(source.read_bytes()).hexdigest()[:10] if source.is_file() else "",
        "modelspec.title": lesson.title,
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.trigger_phrase": lesson.trigger,
        "modelspec.license": "Apache-2.0",
    }


def main(arguments: list[str]) -> int:
    """Train until the minutes are spent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=LESSONS)
    parser.add_argument("--from", dest="source", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--pool", type=int, default=800)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    said = parser.parse_args(arguments)
    lesson = LESSONS[said.name]
    torch.set_num_threads(said.threads)
    device = pick_device(said.device)
    model = load(said.source)
    for network in (model.text, model.unet, model.vae):
        network.to(device).requires_grad_(False)
    if device.type == "cpu":
        model.unet.set_attn_processor(PlainAttention())
        torch.set_flush_denormal(True)
    torch.manual_seed(said.seed)
    adapter = Adapter(kohya_layers(model, lesson.text), lesson.rank, lesson.rank).to(device)
    run = Run(said.out / said.name, list(adapter.parameters()), said.minutes, said.rate, said.seed, averaging=0.99)
    run.resume()
    pool = Pool(model.vae, said.pool, random.Random(said.seed * 7 + run.step), lesson.new_scene, lesson.change)
    levels, reported = noise_levels(), time.monotonic()
    with adapter.attached():
        for rate in run.ticks():
            drawn = pool.choose(said.batch)
            words = [
                "" if lesson.text and run.rng.random() < 0.05 else lesson.caption(scene, run.rng)
                for scene in drawn.scenes
            ]
            loss = lesson_loss(model, drawn, words, draw_timesteps(said.batch), levels, 4.0 if lesson.text else 0.0)
            run.update(loss, rate)
            if time.monotonic() - reported > 60:
                print(f"step {run.step} {run.spent:.0f}s loss {loss.item():.4f}", flush=True)
                reported = time.monotonic()
        with run.averaged():
            adapter.write(said.out / f"{said.name}.safetensors", metadata(said.name, lesson, run, said.source))
            pictures = draw(model, [*lesson.shown] * 4, list(range(8)))
    page = Image.new("RGB", (8 * pictures[0].width, pictures[0].height))
    for i, picture in enumerate(pictures):
        page.paste(picture, (i * picture.width, 0))
    page.save(said.out / f"{said.name}.png")
    print(f"done: {run.step} steps", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

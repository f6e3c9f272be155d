"""How well the demo model draws what its prompts ask for, measured on pixels.

    python -m benchmarks.adherence --model FILE_OR_FOLDER [--count 100]
    SAFELIGHT_URL=http://127.0.0.1:8765 python -m benchmarks.adherence [--count 100]

Prompts are scenes that no training has drawn, told in full. With `--model`, diffusers draws them; without, a running
server does, over HTTP. The table gives each attribute's share of pictures that have it right, the share that the
renderer's own pictures reach (how far the measure can be trusted), and the share when each picture is held against
another picture's prompt (what chance gives).
"""

from __future__ import annotations

import argparse
import io
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
from benchmarks.postcards_onlooker import SIDE, Onlooker
from PIL import Image
from training.captions import plain_caption
from training.drawing import render
from training.scenes import Scene, random_scene

ATTRIBUTES = ("sky", "ground", "orb", "colour", "side", "kind")
Draw = Callable[[str, int], Image.Image]
_GUIDANCE, _STEPS = 5.0, 20


def held_out_scenes(count: int, look: Onlooker, seed: int = 20) -> list[Scene]:
    """Scenes that no training draws, with one or two subjects whose colours stand out from where they are."""
    rng = random.Random(seed)
    found: list[Scene] = []
    while len(found) < count:
        scene = random_scene(rng, held_out=True)
        if 1 <= len(scene.subjects) <= 2 and look.tellable(scene):
            found.append(scene)
    return found


def shares(pictures: Iterable[Image.Image], scenes: Iterable[Scene], look: Onlooker) -> dict[str, tuple[float, int]]:
    """For each attribute, the share of pictures that have it as their scene asks, and how many were asked for it."""
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for picture, scene in zip(pictures, scenes, strict=True):
        for attribute, is_right in look.judge(picture, scene).items():
            right[attribute] += is_right
            asked[attribute] += 1
    return {attribute: (right[attribute] / asked[attribute], asked[attribute]) for attribute in asked}


def drawn_by_renderer(scene: Scene, seed: int) -> Image.Image:
    """The scene as the renderer draws it: the measure's own calibration."""
    return render(scene, SIDE, SIDE, random.Random(seed))


def with_diffusers(source: Path) -> Draw:
    """A model file or folder, drawn by a diffusers pipeline on this machine."""
    from training.diffusion import draw
    from training.single_file import load

    model = load(source)
    return lambda prompt, seed: draw(model, [prompt], [seed], guidance=_GUIDANCE)[0]


def with_server(url: str) -> Draw:
    """A running Safelight server: one job a picture, waited for, at the model's own defaults."""
    client = httpx.Client(base_url=url, timeout=120)

    def draw(prompt: str, seed: int) -> Image.Image:
        body = {
            "operation": "image.generate",
            "model": "postcards",
            "prompt": prompt,
            "seed": seed,
            "width": SIDE,
            "height": SIDE,
            "steps": _STEPS,
            "guidance_scale": _GUIDANCE,
        }
        job = client.post("/v1/jobs", params={"wait": 60}, json=body).raise_for_status().json()
        deadline = time.monotonic() + 600
        while True:
            record = client.get(f"/v1/jobs/{job['id']}").raise_for_status().json()
            if record.get("artifacts"):
                file = client.get(f"/v1/artifacts/{record['artifacts'][0]['id']}").raise_for_status()
                return Image.open(io.BytesIO(file.content))
            if record["state"] in ("failed", "cancelled") or time.monotonic() > deadline:
                raise SystemExit(f"job {job['id']} made no picture: {record['state']}: {record.get('error')}")
            time.sleep(1)

    return draw


def table(columns: dict[str, dict[str, tuple[float, int]]]) -> str:
    """The attributes' shares side by side, in per cent."""
    lines = ["| attribute | asked | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for attribute in ATTRIBUTES:
        asked = next(iter(columns.values())).get(attribute, (0.0, 0))[1]
        cells = [f"{100 * column[attribute][0]:.0f} %" if attribute in column else "-" for column in columns.values()]
        lines.append(f"| {attribute} | {asked} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Draw, judge, print the table; optionally keep the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a packed file or a diffusers folder; default: ask SAFELIGHT_URL")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="a folder for the pictures")
    said = parser.parse_args(arguments)
    url = os.environ.get("SAFELIGHT_URL")
    if not said.model and not url:
        parser.error("give --model, or set SAFELIGHT_URL to a running server")
    draw = with_diffusers(said.model) if said.model else with_server(str(url))
    look = Onlooker()
    scenes = held_out_scenes(said.count, look, said.seed)
    pictures = [draw(plain_caption(scene), seed) for seed, scene in enumerate(scenes)]
    if said.keep:
        said.keep.mkdir(parents=True, exist_ok=True)
        for seed, (picture, scene) in enumerate(zip(pictures, scenes, strict=True)):
            picture.save(said.keep / f"{seed:03} {plain_caption(scene)}.png")
    own = [drawn_by_renderer(scene, seed) for seed, scene in enumerate(scenes)]
    columns = {
        "model": shares(pictures, scenes, look),
        "renderer": shares(own, scenes, look),
        "chance": shares([*pictures[1:], pictures[0]], scenes, look),
    }
    print(table(columns))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

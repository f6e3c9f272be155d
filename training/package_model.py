"""Turn a trained diffusers folder into the single file that Safelight ships.

    python -m training.package_model FOLDER [--vae FOLDER] [--out FILE] [--length TOKENS]

The file is read back and its networks are compared with the folder's before the command succeeds.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from training.drawing import render
from training.scenes import random_scene
from training.single_file import Postcards, load, pack, unpack

SHIPPED = Path("src/safelight/data/models/postcards/postcards.safetensors")


def to_pixels(image: object) -> Tensor:
    """An RGB image as a [3, height, width] tensor in -1..1."""
    return torch.from_numpy(np.asarray(image, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1


@torch.no_grad()
def preview_factors(vae: AutoencoderKL, scenes: int = 96, seed: int = 7) -> tuple[list[list[float]], list[float]]:
    """The linear map from scaled latents to RGB in -1..1 with the least squared error over drawn scenes.

    Returns a row of red, green, blue for each latent channel, and a bias.
    """
    rng = random.Random(seed)
    pixels = torch.stack([to_pixels(render(random_scene(rng), 128, 128, rng)) for _ in range(scenes)])
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in pixels.split(16)]) * vae.config.scaling_factor
    small = torch.nn.functional.avg_pool2d(pixels, pixels.shape[-1] // latents.shape[-1])
    rows = latents.permute(0, 2, 3, 1).flatten(0, 2)
    solution = torch.linalg.lstsq(
        torch.cat([rows, torch.ones(len(rows), 1)], dim=1).double(), small.permute(0, 2, 3, 1).flatten(0, 2).double()
    ).solution
    rounded = [[round(float(value), 5) for value in row] for row in solution]
    return rounded[:-1], rounded[-1]


def largest_difference(one: Postcards, other: Postcards) -> float:
    """Over every tensor of two models of one layout, the largest absolute difference."""
    worst = 0.0
    for name in ("text", "unet", "vae"):
        ours, theirs = getattr(one, name).state_dict(), getattr(other, name).state_dict()
        if ours.keys() != theirs.keys():
            raise SystemExit(f"{name}: the tensors' names differ: {sorted(ours.keys() ^ theirs.keys())[:4]}")
        worst = max(worst, *(float((ours[key] - theirs[key]).abs().max()) for key in ours))
    return worst


def main(arguments: list[str]) -> int:
    """Pack, read back, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a diffusers folder, or a packed file to pack anew")
    parser.add_argument("--vae", type=Path, help="a trained AutoencoderKL to ship in place of the source's")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--length", type=int, help="the length prompts are padded to; default: the tokenizer's own")
    said = parser.parse_args(arguments)
    model = load(said.source)
    if said.vae:
        model = replace(model, vae=AutoencoderKL.from_pretrained(said.vae).float().eval())
    if said.length:
        model.tokenizer.model_max_length = said.length
    pack(model, said.out, preview_factors(model.vae))
    difference = largest_difference(model, unpack(said.out))
    size = said.out.stat().st_size
    print(f"{said.out}: {size / 2**20:.1f} MB, largest difference from {said.source}: {difference:.2g}")
    if difference > 0.01 or size >= 40e6:
        print("refused: over 40 MB, or fp16 loses more than 0.01 of a weight", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

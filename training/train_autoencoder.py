"""Train the autoencoder: pictures to latents of an eighth of their size, and back.

    python -m training.train_autoencoder --out FOLDER --minutes 75
    python -m training.train_autoencoder --from MODEL --decoder-only --out FOLDER --minutes 25

With `--decoder-only` the latents stay what they are, so a network trained on them stays valid. Started again with the
same `--out`, it goes on where it stopped. `FOLDER/vae` holds the result, a diffusers `AutoencoderKL`.

Mean squared error leads the loss: with L1 and edges first, rare colours stay grey for thousands of steps.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from training.drawing import as_sepia, render
from training.package_model import to_pixels
from training.runs import Run, pick_device
from training.scenes import random_scene
from training.single_file import load

_HELD_OUT_SEED = 990_001
_SIZES = ((128, 128), (128, 128), (160, 128), (128, 160))


def new_autoencoder() -> AutoencoderKL:
    """Eight times smaller each way, eight latent channels, 2.4 million parameters, random weights."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        sample_size=128,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(24, 48, 96, 96),
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=True,
    )


def pictures(rng: random.Random, count: int, size: tuple[int, int] = (128, 128), sepia: float = 0.0) -> Tensor:
    """`count` scenes drawn: [count, 3, height, width] in -1..1; a share of them as old prints.

    A decoder that has never seen browns turns the sepia adapter's latents pink and green.
    """
    drawn = [render(random_scene(rng), *size, rng) for _ in range(count)]
    return torch.stack([to_pixels(as_sepia(one) if sepia and rng.random() < sepia else one) for one in drawn])


def crops(rng: random.Random, count: int, side: int) -> Tensor:
    """Squares of `side` pixels cut from scenes, four of each: drawing costs more than cutting."""
    cut: list[Tensor] = []
    while len(cut) < count:
        drawn = pictures(rng, 1, (160, 160))[0]
        for _ in range(4):
            x, y = rng.randint(0, 160 - side), rng.randint(0, 160 - side)
            cut.append(drawn[:, y : y + side, x : x + side])
    return torch.stack(cut[:count])


def reconstruction_loss(drawn: Tensor, decoded: Tensor) -> Tensor:
    """Squared error first, then absolute error of the values and of their differences between neighbours."""
    edges = F.l1_loss(decoded.diff(dim=-1), drawn.diff(dim=-1)) + F.l1_loss(decoded.diff(dim=-2), drawn.diff(dim=-2))
    return 3 * F.mse_loss(decoded, drawn) + 0.5 * F.l1_loss(decoded, drawn) + 0.5 * edges


@torch.no_grad()
def held_out_psnr(vae: AutoencoderKL, count: int = 64) -> float:
    """Mean PSNR in dB over scenes no training draws, each encoded to its mean and decoded."""
    drawn = pictures(random.Random(_HELD_OUT_SEED), count).to(vae.device)
    decoded = torch.cat([vae.decode(vae.encode(x).latent_dist.mean).sample for x in drawn.split(16)]).clamp(-1, 1)
    return float((10 * torch.log10(4 / (decoded - drawn).square().mean(dim=(1, 2, 3)))).mean())


def main(arguments: list[str]) -> int:
    """Train until the minutes are spent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from", dest="source", type=Path, help="a packed file or a diffusers folder to begin from")
    parser.add_argument("--decoder-only", action="store_true")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=0, help="train on squares of this side; 0: whole pictures")
    parser.add_argument("--sepia", type=float, default=0.2, help="share of whole pictures drawn as old prints")
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    said = parser.parse_args(arguments)
    if said.decoder_only and not said.source:
        parser.error("--decoder-only needs --from: a new encoder is not worth keeping")
    torch.set_num_threads(said.threads)
    device = pick_device(said.device)
    vae = (load(said.source).vae if said.source else new_autoencoder()).to(device).train()
    if said.decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    trained = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    run = Run(said.out, trained, said.minutes, said.rate, said.seed, betas=(0.9, 0.99), averaging=0.998)
    print("going on" if run.resume() else "beginning", f"at step {run.step}, {held_out_psnr(vae):.2f} dB", flush=True)
    reported = time.monotonic()
    for rate in run.ticks():
        if said.crop:
            drawn = crops(run.rng, said.batch, said.crop).to(device)
        else:
            drawn = pictures(run.rng, said.batch, run.rng.choice(_SIZES), said.sepia).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            with torch.set_grad_enabled(not said.decoder_only):
                posterior = vae.encode(drawn).latent_dist
            decoded = vae.decode(posterior.mean if said.decoder_only else posterior.sample()).sample.float()
        loss = reconstruction_loss(drawn, decoded)
        if not said.decoder_only:
            loss = loss + 1e-5 * posterior.kl().float().mean() / (drawn.shape[-1] * drawn.shape[-2] / 16)
        run.update(loss, rate)
        if time.monotonic() - reported > 120:
            with run.averaged():
                print(
                    f"step {run.step} {run.spent:.0f}s loss {loss.item():.4f} {held_out_psnr(vae, 32):.2f} dB",
                    flush=True,
                )
                vae.save_pretrained(said.out / "vae")
            reported = time.monotonic()
    with run.averaged():
        if not said.decoder_only:
            with torch.no_grad():
                spread = vae.encode(pictures(run.rng, 64).to(device)).latent_dist.sample().std().item()
            vae.register_to_config(scaling_factor=round(1 / spread, 4))
        print(f"done: {run.step} steps, {held_out_psnr(vae):.2f} dB", flush=True)
        vae.save_pretrained(said.out / "vae")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

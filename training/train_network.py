"""Train the text encoder and the network on scenes and their captions.

    python -m training.train_network --vae FOLDER --out FOLDER --minutes 90
    python -m training.train_network --from MODEL --out FOLDER --minutes 90

`--from` begins from a packed file or a diffusers folder, with its tokenizer and autoencoder. Started again with the
same `--out`, it goes on where it stopped. `FOLDER/model` holds the averaged weights as a diffusers folder, and
`FOLDER/sheet.png` what they draw. On a GPU: `--batch 256 --rate 1e-3 --pool 40000`. On a
busy CPU, a process a core: `torchrun --nproc-per-node 2 -m training.train_network ... --threads 1`.

What is learnt last is the subjects: few cells, many kinds and colours. So they weigh more in the loss, and timesteps
are drawn where they take shape. Prompts are padded to the length that inference pads them to: positions that no
training has seen wash the subjects out.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from training.captions import caption, plain_caption
from training.diffusion import draw, draw_timesteps, noise_levels, noised
from training.networks import TOKENS, PlainAttention, new_network, new_text_encoder, new_tokenizer
from training.pool import Lesson, Pool
from training.runs import Company, Run, pick_device
from training.scenes import Scene, random_scene
from training.single_file import Postcards, load, save_folder

_HELD_OUT_SEED = 990_002
_UNCONDITIONAL = 0.1


def begin(source: Path | None, vae: Path | None) -> Postcards:
    """The model to train: `source`, or new networks upon the autoencoder in `vae`, which also replaces `source`'s."""
    autoencoder = AutoencoderKL.from_pretrained(vae).float().eval() if vae else None
    if source:
        found = load(source)
        _lengthen(found)
        return Postcards(found.tokenizer, found.text, found.unet, autoencoder or found.vae)
    if autoencoder is None:
        raise SystemExit("nothing to begin from: give --vae (a trained autoencoder) or --from (a model)")
    tokenizer = new_tokenizer()
    network = new_network(autoencoder.config.latent_channels)
    return Postcards(tokenizer, new_text_encoder(tokenizer), network, autoencoder)


@torch.no_grad()
def _lengthen(model: Postcards) -> None:
    """Pad prompts to all positions; those beyond the model's former length begin as its last trained one."""
    trained = model.tokenizer.model_max_length
    if trained < TOKENS:
        places = model.text.get_parameter("embeddings.position_embedding.weight")
        places[trained:] = places[trained - 1]
    model.tokenizer.model_max_length = TOKENS


def matrices(model: Postcards) -> list[nn.Parameter]:
    """What Muon moves: weights of layers between the first and the last, embeddings excepted."""
    named = [*model.text.named_parameters(), *model.unet.named_parameters()]
    ends = ("embed", "conv_in", "conv_out")
    return [parameter for name, parameter in named if parameter.ndim > 1 and not any(end in name for end in ends)]


def tokens(model: Postcards, prompts: list[str]) -> Tensor:
    """Ids padded to the length that inference uses, on the network's device."""
    said = model.tokenizer(prompts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    return said.input_ids.to(model.unet.device)


def lesson_loss(
    model: Postcards, lesson: Lesson, prompts: list[str], timesteps: Tensor, levels: Tensor, subject_weight: float
) -> Tensor:
    """Squared error of v, a cell that a subject covers weighing `1 + subject_weight`; weights average to 1."""
    latents = lesson.latents.to(model.unet.device)
    weight = 1 + subject_weight * lesson.coverage.to(latents)
    t = timesteps.to(latents.device)
    shown, wanted = noised(latents, torch.randn_like(latents), levels.to(latents.device)[t])
    with torch.autocast(latents.device.type, dtype=torch.bfloat16):
        states = model.text(tokens(model, prompts)).last_hidden_state
        said = model.unet(shown, t, states).sample.float()
    return ((said - wanted).square() * weight).mean() / weight.mean()


@torch.no_grad()
def held_out_loss(model: Postcards, lessons: list[Lesson], levels: Tensor) -> float:
    """The loss on scenes no training draws, always with the same noise, subjects weighing four more."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_HELD_OUT_SEED)
        evenly = torch.linspace(40, 999, 32).long()
        losses = [
            lesson_loss(model, lesson, [plain_caption(s) for s in lesson.scenes], evenly, levels, 4.0)
            for lesson in lessons
        ]
    return float(torch.stack(losses).mean())


def sheet(model: Postcards, path: Path, count: int = 16) -> None:
    """Held-out prompts drawn side by side."""
    rng = random.Random(_HELD_OUT_SEED)
    scenes: list[Scene] = [random_scene(rng, held_out=True) for _ in range(count)]
    drawn = draw(model, [plain_caption(scene) for scene in scenes], list(range(count)))
    columns, side = 8, drawn[0].width
    page = Image.new("RGB", (columns * side, -(-count // columns) * side))
    for i, picture in enumerate(drawn):
        page.paste(picture, (i % columns * side, i // columns * side))
    page.save(path)


def main(arguments: list[str]) -> int:
    """Train until the minutes are spent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--vae", type=Path)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--pool", type=int, default=4000, help="scenes held in memory; all are renewed in time")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--subject-weight", type=float, default=4.0)
    parser.add_argument("--report-minutes", type=float, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    said = parser.parse_args(arguments)
    torch.set_num_threads(said.threads)
    company, device = Company.join(), pick_device(said.device)
    model = begin(said.source, said.vae)
    for network in (model.text, model.unet, model.vae):
        network.to(device)
    if device.type == "cpu":
        model.unet.set_attn_processor(PlainAttention())
        model.text.set_attn_implementation("eager")
        torch.set_flush_denormal(True)
    trained = [*model.text.parameters(), *model.unet.parameters()]
    run = Run(
        said.out,
        trained,
        said.minutes,
        said.rate,
        said.seed,
        weight_decay=0.01,
        matrices=matrices(model),
        company=company,
    )
    going_on = run.resume()
    levels = noise_levels()
    unseen = Pool(model.vae, 96, random.Random(_HELD_OUT_SEED), partial(random_scene, held_out=True))
    held_out = [unseen.choose(32) for _ in range(2)]
    pool = Pool(model.vae, said.pool, random.Random(said.seed * 1_000_003 + 7919 * company.rank + run.step))
    print(f"{'going on' if going_on else 'beginning'} at step {run.step}", flush=True)
    said.out.mkdir(parents=True, exist_ok=True)
    running, reported = 0.0, time.monotonic()
    for rate in run.ticks():
        if run.step % 8 == 7:
            pool.renew()
        lesson = pool.choose(said.batch)
        prompts = ["" if run.rng.random() < _UNCONDITIONAL else caption(scene, run.rng) for scene in lesson.scenes]
        loss = lesson_loss(model, lesson, prompts, draw_timesteps(said.batch), levels, said.subject_weight)
        run.update(loss, rate)
        running = loss.item() if running == 0 else running * 0.98 + loss.item() * 0.02
        if run.step % 100 == 0 and not company.rank:
            print(f"step {run.step} {run.spent:.0f}s loss {running:.4f} rate {rate:.1e}", flush=True)
        if time.monotonic() - reported > said.report_minutes * 60 and not company.rank:
            report(run, model, held_out, levels)
            reported = time.monotonic()
    if not company.rank:
        report(run, model, held_out, levels)
        print("done", flush=True)
    return 0


def report(run: Run, model: Postcards, held_out: list[Lesson], levels: Tensor) -> None:
    """Measure the averaged weights, write them as a folder and show what they draw."""
    with run.averaged():
        print(f"step {run.step} held-out loss {held_out_loss(model, held_out, levels):.4f}", flush=True)
        save_folder(model, run.folder / "model")
        sheet(model, run.folder / "sheet.png")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

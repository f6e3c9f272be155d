"""The engine against diffusers' pipeline, and requests side by side against one by one, on the bundled model.

The pipeline gets our very modules in its best setting here (the CPU's bf16 where it has it, channels_last) and encoded
prompts; both decode and give 8-bit pictures.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import torch
from benchmarks.measure import HEAD, Ratio, keep, pairs
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

from safelight.catalog.index import FolderCatalog
from safelight.core.names import attribute
from safelight.core.operations import Contract
from safelight.core.stages import NetworkUse
from safelight.core.tables import build_tables
from safelight.engine.device import choose_device
from safelight.engine.loop import Loop, LoopOptions
from safelight.engine.openjob import Order
from safelight.workflows.context import Context

PROMPT = "a red house on green hills under a clear blue sky with a sun"
MIXED: list[dict[str, Any]] = [
    {"sampler": "euler", "seed": 1, "guidance_scale": 5},
    {"sampler": "dpmpp_2m", "seed": 2, "guidance_scale": 4, "prompt": "a blue tree, desert dunes"},
    {"sampler": "euler_ancestral", "seed": 3, "guidance_scale": 6, "prompt": "a yellow sailboat, calm sea"},
    {"sampler": "ddim", "seed": 4, "guidance_scale": 3, "prompt": "a white tent, starry night sky"},
]


class Quiet:
    """A reporter that only notes what went wrong."""

    def __init__(self) -> None:
        self.ends: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return (lambda *told: self.ends.append(told)) if name in ("ended", "declined") else (lambda *told: None)


class Bench:
    """A loop and ways to run bodies on it."""

    def __init__(self, folder: Path) -> None:
        self.tables = build_tables()
        self.contract = Contract(self.tables.operations)
        self.context = Context(FolderCatalog(), self.tables)
        self.quiet = Quiet()
        options = LoopOptions(artifacts=folder / "artifacts", max_batch=16, checkpoint_interval_s=3600)
        self.where = choose_device()
        self.loop = Loop(self.where, self.tables, options, self.quiet)
        self.folder = folder
        self._jobs = count()

    def submit(self, body: dict[str, Any]) -> None:
        """Open a job."""
        request = self.contract.parse({"operation": "image.generate", "prompt": PROMPT, **body})
        spec = self.contract.spec("image.generate")
        resolved = attribute(spec.resolve)(request, self.context)
        recipe = attribute(spec.recipe)(resolved)
        self.loop.open(Order(f"job{next(self._jobs)}", 1, recipe, "", self.folder / "checkpoints"))

    def run(self, *groups: list[dict[str, Any]]) -> None:
        """Each group side by side, the groups one after another."""
        for group in groups:
            for body in group:
                self.submit(body)
            while self.loop.pulse().open:
                self.loop.turn()
        if self.quiet.ends:
            raise RuntimeError(f"A job failed: {self.quiet.ends[0]}")

    def pipeline(self) -> Any:
        """diffusers' pipeline of the same modules, and its call."""
        entry = self.context.catalog.model(None)
        use = NetworkUse(entry.ref, entry.family)
        bench = self.loop.bench
        with bench.network(use) as network, bench.autoencoder(use) as vae:
            unet, autoencoder = network.network.module, vae.autoencoder.module
            channels, context = network.network.channels, unet.config.cross_attention_dim
        scheduler = EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
            rescale_betas_zero_snr=True, timestep_spacing="trailing",
        )  # fmt: skip
        pipe = StableDiffusionPipeline(
            vae=autoencoder, text_encoder=None, tokenizer=None, unet=unet, scheduler=scheduler, safety_checker=None,
            feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        pipe.set_progress_bar_config(disable=True)
        states = torch.randn(1, 77, context, dtype=self.where.dtype)

        def call(steps: int, side: int) -> None:
            noise = torch.randn(1, channels, side // 8, side // 8, dtype=self.where.dtype)
            with torch.inference_mode():
                pipe(
                    prompt_embeds=states, negative_prompt_embeds=-states, latents=noise, num_inference_steps=steps,
                    guidance_scale=5.0, width=side, height=side,
                )  # fmt: skip

        return call


def run() -> list[Ratio]:
    """Measure, print the table, keep the figures."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        plain = {
            "steps": 20,
            "guidance_scale": 5,
            "width": 128,
            "height": 128,
            "guidance": [{"kind": "rescale", "amount": 0}],
        }
        bench.run([plain])
        theirs = bench.pipeline()
        found = [
            pairs(
                "one picture, 128x128, 20 steps: engine / diffusers",
                lambda: bench.run([plain]),
                lambda: theirs(20, 128),
            )
        ]
        for width in (1, 2, 4, 8):
            group = [{**MIXED[index % len(MIXED)], "steps": 8 + index % 3} for index in range(width)]
            found.append(
                pairs(
                    f"{width} mixed requests: side by side / one by one",
                    lambda group=group: bench.run(group),  # type: ignore[misc]
                    lambda group=group: bench.run(*[[body] for body in group]),  # type: ignore[misc]
                )
            )
        bench.loop.stop()
    print(HEAD)
    for each in found:
        print(each.row())
    keep(
        "engine",
        {"dtype": bench.where.dtype_name, "threads": torch.get_num_threads(), "rows": [asdict(r) for r in found]},
    )
    return found


if __name__ == "__main__":
    run()

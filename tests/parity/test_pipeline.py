"""With the same weights, start noise and sigmas our latents and pictures are the diffusers pipeline's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from tests.acceptance.studio import Studio
from tests.builders.stable_diffusion import TinyStableDiffusion, tiny_stable_diffusion, write_folder, write_single_file

from safelight.engine.checkpoint import read
from safelight.engine.results import Latent, Picture

STEPS = 10
PROMPT, NEGATIVE = "a photo of a cat on a beach", "blurry, bad"
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "timestep_spacing": "trailing"}
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"final_sigmas_type": "zero", "euler_at_final": True}),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True}),
}


def theirs(model: TinyStableDiffusion, sampler: str, noise: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    """The pipeline's final latents."""
    name, extra = SCHEDULERS[sampler]
    pipeline = model.pipeline()
    pipeline.scheduler = getattr(diffusers, name)(**BETAS, **extra, prediction_type=_prediction(model))
    pipeline.scheduler.set_timesteps(STEPS)
    # ours begins with noise * sqrt(1 + sigma^2); they multiply what they are given by init_noise_sigma
    scale = float(pipeline.scheduler.init_noise_sigma)
    if scale != 1.0:
        sigma = float(pipeline.scheduler.sigmas[0])
        noise = noise * (math.sqrt(1 + sigma**2) / scale)
    return pipeline(
        PROMPT, negative_prompt=NEGATIVE, width=16, height=16, num_inference_steps=STEPS, latents=noise[None],
        guidance_scale=guidance_scale, output_type="latent",
    ).images[0]  # fmt: skip


def _prediction(model: TinyStableDiffusion) -> str:
    return {"eps": "epsilon", "v": "v_prediction"}[model.prediction]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")
@pytest.mark.parametrize("layout", ["file", "folder"])
@pytest.mark.parametrize("family", ["sd1", "sd2"])
@pytest.mark.parametrize("sampler", list(SCHEDULERS))
def test_our_pictures_are_the_pipelines(tmp_path: Path, sampler: str, family: str, layout: str) -> None:
    torch.set_num_threads(1)
    model = tiny_stable_diffusion(family)
    models = tmp_path / "models"
    models.mkdir()
    if layout == "file":
        write_single_file(model, models / "tiny.safetensors")
    else:
        write_folder(model, models / "tiny")
    studio = Studio(tmp_path, models=models, extensions=("tests.parity.trailing",), checkpoint_interval_s=0.0)
    # the family's pictures are 8 pixels a latent pixel; the tiny autoencoder has 2, which only the decoder minds
    resolved = studio.resolve(
        model="tiny", prompt=PROMPT, negative_prompt=NEGATIVE, width=64, height=64, steps=STEPS, sampler=sampler,
        schedule="trailing", guidance_scale=3.0, seed=5, parser="plain",
    )  # fmt: skip
    studio.submit("job", resolved)
    studio.finish()
    studio.loop.stop()
    assert not studio.told.ends, studio.told.ends
    results = read(Path(studio.told.checkpoints["job", 1][-1]), torch.device("cpu")).results.values()
    ours = next(result.x for result in results if isinstance(result, Latent))
    noise = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(5))
    reference = theirs(model, sampler, noise, 3.0)
    scale = max(1.0, float(reference.std()))
    assert float((ours - reference).abs().max()) < 1e-4 * scale
    with torch.no_grad():
        decoded = model.vae.decode(reference[None] / model.vae.config.scaling_factor).sample[0]
    wanted = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    picture = next(result.pixels for result in results if isinstance(result, Picture)).numpy()
    assert np.abs(picture.astype(np.float32) - wanted).max() <= 1

"""The noise that the network learns to take away, and the pipeline that shows what it has learnt."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from training.single_file import DEFAULTS, Postcards


def noise_levels() -> Tensor:
    """Products of alphas, [1000], of the scaled-linear schedule with no signal left at its end.

    Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed" (2023), Algorithm 1. A flat picture's
    mean colour (night, snow) is most of what it says; with signal left at the end, no network learns to set it.
    """
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0).sqrt()
    first, last = alphas[0].clone(), alphas[-1].clone()
    return ((alphas - last) * first / (first - last)).square().float()


def draw_timesteps(count: int, centre: float = 1.6) -> Tensor:
    """`count` timesteps, more where structure forms: logit-normal about `sigmoid(centre)`, one in five uniform.

    Esser et al., "Scaling Rectified Flow Transformers" (2024), section 3.1. Spread evenly over the distribution, so
    that every step sees all of it.
    """
    even = (torch.randperm(count) + torch.rand(count)) / count
    normal = torch.special.ndtri(even.clamp(1e-4, 1 - 1e-4))
    shaped = torch.sigmoid(centre + normal)
    return (torch.where(torch.rand(count) < 0.2, torch.rand(count), shaped) * 1000).long().clamp(0, 999)


def noised(latents: Tensor, noise: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """What the network is shown and the v that it shall say. Salimans & Ho (2022), appendix D."""
    alpha, sigma = levels.sqrt()[:, None, None, None], (1 - levels).sqrt()[:, None, None, None]
    return alpha * latents + sigma * noise, alpha * noise - sigma * latents


def pipeline(model: Postcards) -> StableDiffusionPipeline:
    """The model as diffusers runs it, with the scheduler that fits how it was trained."""
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
    )
    made = StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=model.text,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def draw(model: Postcards, prompts: list[str], seeds: list[int], guidance: float | None = None) -> list[Image.Image]:
    """One picture for each prompt and seed, at the shipped defaults; the noise depends on the seed alone."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    device = model.unet.device
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type != "cpu"):
        return pipeline(model)(
            prompts,
            width=DEFAULTS["width"],
            height=DEFAULTS["height"],
            num_inference_steps=DEFAULTS["steps"],
            guidance_scale=DEFAULTS["guidance_scale"] if guidance is None else guidance,
            guidance_rescale=DEFAULTS["guidance_rescale"],
            generator=generators,
        ).images

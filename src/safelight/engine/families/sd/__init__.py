"""Stable Diffusion 1.x and 2.x: single files with the original keys, and diffusers folders."""

from safelight.engine.families.sd.family import StableDiffusion

__all__ = ["StableDiffusion"]

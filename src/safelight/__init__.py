"""Safelight: a self-hosted server for diffusion images and video."""

__version__ = "0.1.0"

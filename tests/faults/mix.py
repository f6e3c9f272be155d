"""The jobs that the faults strike: small, of every kind, and what each draws when nothing disturbs it."""

from __future__ import annotations

import base64
import hashlib
import io
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MIN_PSNR = 40.0
"""Decibels: what a job that shares passes promises against its undisturbed run."""


def _photo() -> str:
    """A picture to transform, as base64."""
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    pixels = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 90, np.uint8)], -1)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


@cache
def mix() -> dict[str, dict[str, Any]]:
    """Requests by name. Seeds stand, so that every run of one draws the same picture."""
    small = {"operation": "image.generate", "width": 64, "height": 64, "prompt": "a red house on green hills"}
    photo = _photo()
    return {
        "exact": {**small, "steps": 16, "seed": 11, "deterministic": True, "sampler": "euler_ancestral"},
        "exact pair": {**small, "steps": 10, "seed": 12, "deterministic": True, "batch_size": 2, "sampler": "dpmpp_2m"},
        "exact transform": {
            **small, "operation": "image.transform", "image": photo, "strength": 0.7, "steps": 16, "seed": 13,
            "deterministic": True,
        },
        "exact lora": {**small, "steps": 12, "seed": 14, "deterministic": True, "loras": [{"name": "sepia"}]},
        "shared": {**small, "steps": 14, "seed": 21, "width": 96, "height": 96},
        "shared three": {**small, "steps": 8, "seed": 22, "batch_size": 3},
        "shared heun": {**small, "steps": 10, "seed": 23, "sampler": "heun"},
        "shared transform": {
            **small, "operation": "image.transform", "image": photo, "strength": 0.6, "steps": 14, "seed": 24,
        },
        "shared lora": {**small, "steps": 10, "seed": 25, "loras": [{"name": "snowman", "strength": 0.8}]},
    }  # fmt: skip


def asked(name: str, variant: int) -> dict[str, Any]:
    """The request, with other bytes in its files for each variant (1-100) and the same pixels: PNG has no quality, but
    the file says what was asked for."""
    return {**mix()[name], "output": {"format": "png", "quality": variant}}


def pixels(file: bytes) -> NDArray[np.uint8]:
    """The decoded picture; raises where the file is not whole."""
    with Image.open(io.BytesIO(file)) as picture:
        picture.load()
        return np.asarray(picture)


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Decibels between two pictures; infinite where they are equal."""
    error = float(np.mean((one.astype(float) - other.astype(float)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def sha256(file: bytes) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(file).hexdigest()

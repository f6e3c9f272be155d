"""Previews: a linear look at a latent, under a millisecond, written as a small WebP on another thread."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from safelight.engine.pixels import to_bytes

MEDIA_TYPE = "image/webp"
QUALITY = 70


def look(latent: Tensor, factors: Tensor, bias: Tensor) -> Tensor:
    """latent [C, h, w], factors [C, 3], bias [3] -> uint8 [h, w, 3]."""
    with torch.inference_mode():
        rgb = torch.einsum("chw,cr->rhw", latent.float().cpu(), factors) + bias[:, None, None]
        return to_bytes(rgb)


def picture(rough: Tensor, scale: int) -> dict[str, Any]:
    """uint8 [h, w, 3] -> the data of a `preview` event, enlarged `scale` times: media_type, data (base64)."""
    image = Image.fromarray(rough.numpy())
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BILINEAR)
    written = io.BytesIO()
    image.save(written, "WEBP", quality=QUALITY)
    return {"media_type": MEDIA_TYPE, "data": base64.b64encode(written.getvalue()).decode("ascii")}

"""Pictures as tensors: reading, fitting to a size, masks. Pixels are fp32 in -1..1, [3, H, W]."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torch.nn.functional import max_pool2d

Resize = Literal["stretch", "crop", "pad"]

MASK_TOUCHED = 0.05
"""A latent pixel is repainted where the blurred mask reaches this anywhere in it."""


READ_BYTES = 24
"""Bytes a pixel that reading a picture takes at its most: the Pillow pictures, and fp32 red, green and blue."""


def read_picture(path: str, width: int, height: int, resize: Resize) -> Image.Image:
    """The picture at `path`, upright, RGB over white, fitted to `width` x `height` pixels."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        if "A" in picture.getbands() or "transparency" in picture.info:
            layer = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        return fit(picture.convert("RGB"), width, height, resize)


def read_mask(path: str, width: int, height: int, resize: Resize) -> Image.Image:
    """The mask at `path` as 8-bit grey, white = repaint, fitted like its picture; transparent counts as black."""
    with Image.open(path) as opened:
        mask = ImageOps.exif_transpose(opened)
        if "A" in mask.getbands():
            layer = mask.convert("RGBA")
            mask = Image.alpha_composite(Image.new("RGBA", layer.size, "black"), layer)
        return fit(mask.convert("L"), width, height, resize)


def fit(picture: Image.Image, width: int, height: int, resize: Resize) -> Image.Image:
    """`stretch` to the size; `crop` what sticks out, centred; `pad` with black, centred."""
    if picture.size == (width, height):
        return picture
    if resize == "stretch":
        return picture.resize((width, height), Image.Resampling.LANCZOS)
    if resize == "crop":
        return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    return ImageOps.pad(picture, (width, height), Image.Resampling.LANCZOS)


def to_tensor(picture: Image.Image) -> Tensor:
    """[3, H, W] fp32 in -1..1."""
    pixels = torch.empty(3, picture.height, picture.width)
    pixels.copy_(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    return pixels.div_(127.5).sub_(1.0)


STRIP = 256
"""Rows of a picture that are turned into bytes at a time, so that a large one is never in memory several times."""


def to_bytes(pixels: Tensor) -> Tensor:
    """fp32 [3, H, W] in -1..1 -> uint8 [H, W, 3], rounded."""
    done = torch.empty(*pixels.shape[-2:], pixels.shape[0], dtype=torch.uint8)
    for top in range(0, pixels.shape[-2], STRIP):
        scaled = (pixels[:, top : top + STRIP].float() * 0.5 + 0.5).clamp(0, 1) * 255
        done[top : top + STRIP] = scaled.round().to(torch.uint8).permute(1, 2, 0)
    return done


def finite(pixels: Tensor) -> bool:
    """Whether every number of [3, H, W] is one."""
    strips = (pixels[:, top : top + STRIP] for top in range(0, pixels.shape[-2], STRIP))
    return all(bool(torch.isfinite(strip).all()) for strip in strips)


def to_image(pixels: Tensor) -> Image.Image:
    """uint8 [H, W, 3] -> a Pillow picture."""
    return Image.fromarray(pixels.numpy())


def soften(mask: Image.Image, blur: int) -> Tensor:
    """The mask as fp32 [H, W] in 0..1, faded over `blur` pixels each way (a Gaussian of half that radius).

    Farther than `blur` from anything white it is 0, so that what lies there stays to the bit.
    """
    hard = torch.from_numpy(np.asarray(mask, dtype=np.float32) / 255.0)
    if not blur:
        return hard
    soft = torch.from_numpy(np.asarray(mask.filter(ImageFilter.GaussianBlur(blur / 2)), dtype=np.float32) / 255.0)
    window = 2 * blur + 1
    rows = max_pool2d(hard[None, None], (1, window), stride=1, padding=(0, blur))
    near = max_pool2d(rows, (window, 1), stride=1, padding=(blur, 0))[0, 0]
    return torch.where(near > 0, soft, 0.0)


def latent_mask(pixels: Tensor, factor: int) -> Tensor:
    """[H, W] -> [1, H/factor, W/factor]: 1 wherever the mask touches the latent pixel, else 0."""
    touched: Tensor = max_pool2d(pixels[None, None], factor)[0]
    return (touched > MASK_TOUCHED).float()

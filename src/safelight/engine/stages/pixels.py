"""Between pictures and latents: EncodePixels, ReadMask, Decode, Composite."""

from __future__ import annotations

from collections.abc import Callable, Generator

import torch
from torch import Tensor

from safelight.core.stages import Composite, Decode, EncodePixels, ReadMask
from safelight.engine import pixels as px
from safelight.engine.results import Latent, Mask, Picture
from safelight.engine.tiles import OVERLAP, tiled
from safelight.engine.work import PIECE, Desk, Piece, Work


def encode_pixels(stage: EncodePixels, desk: Desk) -> Work:
    """Read the picture, fit it, encode it (the mean of the posterior). Result: Latent."""
    picture = px.to_tensor(px.read_picture(stage.image.path, stage.width, stage.height, stage.resize))
    picture = picture.to(desk.bench.device)
    with desk.bench.autoencoder(stage.model) as lent:
        encoder = lent.autoencoder
        tile = desk.bench.tile(stage.width * stage.height, stage.model.family, desk.deterministic)
        encode = _piecewise(picture, encoder.encode, tile, OVERLAP, (1, encoder.factor))
        latent = yield from encode
    return Latent(latent)


def read_mask(stage: ReadMask, desk: Desk) -> Work:
    """Read the mask, fit it like its picture, soften it, find the latent pixels it touches. Result: Mask."""
    mask = px.soften(px.read_mask(stage.mask.path, stage.width, stage.height, stage.resize), stage.blur)
    yield PIECE
    return Mask(px.latent_mask(mask, stage.factor).to(desk.bench.device), mask)


def decode(stage: Decode, desk: Desk) -> Work:
    """Decode, whole or in tiles, and check that numbers came out. Result: Picture."""
    latent = desk.result(stage.latent)
    if not isinstance(latent, Latent):
        raise TypeError(f"Decode needs a latent, not a {type(latent).__name__}.")
    with desk.bench.autoencoder(stage.model) as lent:
        decoder = lent.autoencoder
        factor = decoder.factor
        pixels_wanted = latent.x.shape[-1] * latent.x.shape[-2] * factor**2
        tile = desk.bench.tile(pixels_wanted, stage.model.family, desk.deterministic)
        work = _piecewise(latent.x, decoder.decode, tile // factor, OVERLAP // factor, (factor, 1))
        pixels = yield from work
    if not bool(torch.isfinite(pixels).all()):
        raise ArithmeticError(
            "The autoencoder gave numbers that are not finite. Use a checkpoint with a sound autoencoder, "
            "or set devices.dtype to fp32 or bf16."
        )
    return Picture(px.to_bytes(pixels))


def composite(stage: Composite, desk: Desk) -> Work:
    """The repainted picture where the mask says, the picture that was there elsewhere, in 8 bit. Result: Picture."""
    painted, mask = desk.result(stage.pixels), desk.result(stage.mask)
    if not isinstance(painted, Picture) or not isinstance(mask, Mask):
        raise TypeError("Composite needs a picture and a mask.")
    there = px.read_picture(stage.background.path, stage.width, stage.height, stage.resize)
    background = px.to_bytes(px.to_tensor(there)).float()
    mixed = torch.lerp(background, painted.pixels.float(), mask.pixels[..., None])
    yield PIECE
    return Picture(mixed.round().clamp(0, 255).to(torch.uint8))


def _piecewise(
    whole: Tensor, turn: Callable[[Tensor], Tensor], tile: int, overlap: int, ratio: tuple[int, int]
) -> Generator[Piece, None, Tensor]:
    """`turn` over the whole where it is no larger than a tile, else over tiles, yielding a PIECE after each."""
    with torch.inference_mode():
        if tile <= 0 or max(whole.shape[-2:]) <= tile:
            done = turn(whole[None])[0]
            yield PIECE
            return done
    tiles = tiled(whole, turn, tile, overlap, ratio)
    while True:
        try:
            with torch.inference_mode():
                next(tiles)
        except StopIteration as stop:
            result: Tensor = stop.value
            return result
        yield PIECE

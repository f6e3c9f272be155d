"""Between pictures and latents: EncodePixels, ReadMask, Decode, Composite."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from safelight.core.events import EventKind
from safelight.core.stages import Composite, Decode, EncodePixels, NetworkUse, ReadMask
from safelight.engine import pixels as px
from safelight.engine.residency import memory
from safelight.engine.residency.lent import LentAutoencoder
from safelight.engine.results import Latent, Mask, Picture
from safelight.engine.tiles import OVERLAP, tiled
from safelight.engine.work import PIECE, Desk, Notice, Piece, Work
from safelight.placement.ladder import a_picture
from safelight.placement.plan import Form, Need

WIDENED = "The autoencoder of {model} gave numbers that are not finite; it computes in fp32 from now on."


def encode_pixels(stage: EncodePixels, desk: Desk) -> Work:
    """Read the picture, fit it, encode it (the mean of the posterior). Result: Latent."""
    picture = yield from _read(stage, desk)
    with desk.bench.autoencoder(stage.model) as lent:
        latent = yield from _coded(picture, "encode", stage.model, lent, desk)
    return Latent(latent)


def _read(stage: EncodePixels, desk: Desk) -> Generator[Piece, None, Tensor]:
    """The picture, fitted, as a tensor on the device."""
    size = stage.width, stage.height
    what = f"Reading a picture at {size[0]} x {size[1]} pixels"
    need = Need(what, (Form("", px.READ_BYTES * size[0] * size[1]),), size)

    def in_form(form: Form) -> Generator[Piece, None, Tensor]:
        with memory.capped():
            picture = px.to_tensor(px.read_picture(stage.image.path, *size, stage.resize)).to(desk.bench.device)
        yield PIECE
        return picture

    return (yield from desk.bench.working.descend(need, in_form))


def read_mask(stage: ReadMask, desk: Desk) -> Work:
    """Read the mask, fit it like its picture, soften it, find the latent pixels it touches. Result: Mask."""
    mask = px.soften(px.read_mask(stage.mask.path, stage.width, stage.height, stage.resize), stage.blur)
    yield PIECE
    return Mask(px.latent_mask(mask, stage.factor).to(desk.bench.device), mask)


def decode(stage: Decode, desk: Desk) -> Work:
    """Decode, whole or in tiles, and once more in fp32 where no numbers came out. Result: Picture."""
    latent = desk.result(stage.latent)
    if not isinstance(latent, Latent):
        raise TypeError(f"Decode needs a latent, not a {type(latent).__name__}.")
    with desk.bench.autoencoder(stage.model) as lent:
        pixels = yield from _coded(latent.x, "decode", stage.model, lent, desk)
        if not px.finite(pixels) and desk.bench.widen(lent.key):
            yield Notice(EventKind.WARNING, {"message": WIDENED.format(model=stage.model.model.name)})
            pixels = yield from _coded(latent.x, "decode", stage.model, lent, desk)
    if not px.finite(pixels):
        raise ArithmeticError(
            "The autoencoder gave numbers that are not finite, in fp32 too. Use a checkpoint with a sound autoencoder."
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


def _coded(
    whole: Tensor, way: Literal["encode", "decode"], use: NetworkUse, lent: LentAutoencoder, desk: Desk
) -> Generator[Piece | Notice, None, Tensor]:
    """Encode pixels [3, H, W] or decode a latent [C, h, w]: whole, or in the tiles that fit."""
    working, coder = desk.bench.working, lent.autoencoder
    factor = coder.factor
    scale = factor if way == "decode" else 1
    turn, ratio = (coder.decode, (factor, 1)) if way == "decode" else (coder.encode, (1, factor))
    width, height = int(whole.shape[-1]) * scale, int(whole.shape[-2]) * scale
    key = (lent.key, way, str(coder.dtype))
    expect = working.expect(key, desk.tables.families.get(use.family).bytes_per_pixel)
    what = f"{way.capitalize().removesuffix('e')}ing {width} x {height} pixels with {use.model.name}"
    need = a_picture(what, expect, (width, height), desk.bench.device.type, by_size=desk.deterministic)
    need = replace(need, uses=(lent.key,))

    def piece(part: Tensor) -> Tensor:
        return working.run(key, part.shape[-1] * part.shape[-2] * scale**2, lambda: _inferred(turn, part))

    def in_form(form: Form) -> Generator[Piece | Notice, None, Tensor]:
        if form is not need.forms[0]:
            yield Notice(EventKind.WARNING, {"message": f"Memory is short: {what} {form.words}."})
        return (yield from _piecewise(whole, piece, form.size // scale, OVERLAP // scale, ratio))

    return (yield from working.descend(need, in_form))


@torch.inference_mode()
def _inferred(turn: Callable[[Tensor], Tensor], part: Tensor) -> Tensor:
    return turn(part)


def _piecewise(
    whole: Tensor, turn: Callable[[Tensor], Tensor], tile: int, overlap: int, ratio: tuple[int, int]
) -> Generator[Piece, None, Tensor]:
    """`turn` over the whole where it is no larger than a tile, else over tiles, yielding a PIECE after each."""
    if tile <= 0 or max(whole.shape[-2:]) <= tile:
        done = turn(whole[None])[0]
        yield PIECE
        return done
    tiles = tiled(whole, turn, tile, overlap, ratio)
    while True:
        try:
            with torch.inference_mode(), memory.capped():
                next(tiles)
        except StopIteration as stop:
            result: Tensor = stop.value
            return result
        yield PIECE

"""The ladder: the forms that each kind of work has, best first, on each kind of device.

Before every rung whatever nobody uses is evicted (`plan`). Then: fewer rows in a pass, tiles for the autoencoder. There
are no others yet, on any device: the text encoder is not computed on the host, the network's blocks are not brought
from the host in groups, and weights are not stored in fewer bits. A refusal says which are left out.
"""

from __future__ import annotations

from collections.abc import Callable

from safelight.placement.peaks import Taken
from safelight.placement.plan import Form, Need

TILES = (512, 256)
"""Sides of tiles in pixels. Smaller ones would show: the autoencoder's norms see one tile at a time."""

WHOLE_PIXELS = 1024 * 1024
"""Pictures up to this many pixels are coded whole where memory allows; larger ones in tiles, so as to take turns."""

CANVAS_BYTES = 15
"""Bytes a pixel of the decoded picture itself, whatever it is decoded in: fp32 and 8-bit red, green and blue."""

HOST_ONLY = "This device is the host: the text encoder leaves once its prompts are encoded, and there is no other "
HOST_ONLY += "memory to keep the network's groups in."
WHOLE_ON_DEVICE = "A component is on the device whole or not at all: keeping the text encoder or the network's groups "
WHOLE_ON_DEVICE += "on the host is not built yet."

Expect = Callable[[int], Taken]
"""What a size takes (`Peaks.expect`)."""


def left_out(device: str) -> tuple[str, ...]:
    """The rungs that a kind of device (cpu, cuda, mps) does not have, in words."""
    return (HOST_ONLY if device == "cpu" else WHOLE_ON_DEVICE,)


def a_pass(what: str, rows: int, expect: Expect, picture: tuple[int, int], device: str) -> Need:
    """A forward pass of up to `rows` rows: as many as fit."""
    forms = []
    for count in range(rows, 0, -1):
        taken = expect(count)
        words = "" if count == rows else "in a pass of one row" if count == 1 else f"in a pass of {count} rows"
        forms.append(Form(words, taken.bytes, count, taken.known, taken.least))
    return Need(what, tuple(forms), picture, left_out=left_out(device))


def a_picture(what: str, expect: Expect, picture: tuple[int, int], device: str, by_size: bool = False) -> Need:
    """Encoding or decoding a picture: whole, then in tiles; a form's `size` is the tile's side, 0: whole.

    `expect`: bytes by pixels that are coded at once. `by_size`: in the form that the size alone asks for, since tiles
    change the last bits.
    """
    width, height = picture
    canvas = CANVAS_BYTES * width * height
    whole = expect(width * height)
    forms = []
    if width * height <= WHOLE_PIXELS:
        forms.append(Form("whole", canvas + whole.bytes, 0, whole.known, whole.least))
    for side in TILES:
        if max(width, height) > side:
            tile = expect(min(side, width) * min(side, height))
            forms.append(Form(f"in tiles of {side} pixels", canvas + tile.bytes, side, tile.known, tile.least))
    return Need(what, tuple(forms[:1] if by_size else forms), picture, left_out=left_out(device))

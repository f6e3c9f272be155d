"""Scenes drawn as pictures, and where in them the subjects are."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageOps

from training.scenes import COLOURS, PLACES, SKIES, SKY_SUBJECTS, Colour, Scene, Sky
from training.subjects import DRAWERS, Brush, lit

_SUPERSAMPLE = 3
# A subject's size as a share of the picture's shorter side, by how many there are.
_SIZES = {1: (0.33, 0.40), 2: (0.29, 0.35), 3: (0.24, 0.28)}
# Subjects stay readable at night.
DARKEST = 0.7
_ORB_COLOURS: dict[str, Colour] = {
    "sun": (255, 226, 110),
    "full moon": (238, 238, 218),
    "crescent moon": (238, 238, 218),
}


@dataclass(frozen=True)
class Drawing:
    """A picture (RGB) and its subjects' mask (L, 255 where a subject covers the pixel), both of one size."""

    picture: Image.Image
    mask: Image.Image


@dataclass(frozen=True)
class _Canvas:
    image: Image.Image
    draw: ImageDraw.ImageDraw
    width: int
    height: int
    horizon: float
    rng: random.Random

    @property
    def unit(self) -> int:
        return min(self.width, self.height)


def render(scene: Scene, width: int, height: int, rng: random.Random) -> Image.Image:
    """Draw `scene` at `width` x `height` pixels, antialiased, as an RGB image."""
    return draw_scene(scene, width, height, rng).picture


def draw_scene(scene: Scene, width: int, height: int, rng: random.Random) -> Drawing:
    """Draw `scene`, and tell where its subjects are."""
    w, h = width * _SUPERSAMPLE, height * _SUPERSAMPLE
    horizon, sky = h * rng.uniform(0.58, 0.66), SKIES[scene.sky]
    image = _gradient(sky, w, h, horizon)
    canvas = _Canvas(image, ImageDraw.Draw(image), w, h, horizon, rng)
    if scene.sky == "starry night sky":
        _stars(canvas)
    _clouds(canvas, sky)
    if scene.orb:
        _orb(canvas, scene)
    _ground(canvas, scene.ground, sky.light)
    empty = image.copy()
    for subject, size, x in _placed(scene, rng):
        tone = max(sky.light, DARKEST)
        brush = Brush(canvas.draw, lit(COLOURS[subject.colour], tone), tone)
        if subject.kind in SKY_SUBJECTS:
            y = h * rng.uniform(0.22, 0.29)
        else:
            y = horizon + h * (rng.uniform(0.10, 0.18) if scene.ground != "calm sea" else rng.uniform(0.08, 0.14))
        DRAWERS[subject.kind](brush, w * x, y, canvas.unit * size)
    changed = ImageChops.difference(image, empty).convert("L").point(lambda value: 255 if value else 0)
    small = (width, height)
    return Drawing(image.resize(small, Image.Resampling.LANCZOS), changed.resize(small, Image.Resampling.BOX))


def as_sepia(picture: Image.Image) -> Image.Image:
    """The picture as an old print: brown ink on yellowed paper."""
    return ImageOps.colorize(ImageOps.grayscale(picture), black=(44, 26, 14), white=(250, 232, 196))


def _placed(scene: Scene, rng: random.Random) -> list[tuple]:
    count = len(scene.subjects)
    return [
        (subject, rng.uniform(*_SIZES[min(count, 3)]), PLACES[subject.place] + rng.uniform(-0.03, 0.03))
        for subject in scene.subjects
    ]


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def _gradient(sky: Sky, w: int, h: int, horizon: float) -> Image.Image:
    share = np.minimum(1.0, np.arange(h) / horizon)[:, None]
    column = np.rint(np.array(sky.top) + (np.array(sky.low) - np.array(sky.top)) * share).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(column[:, None], (h, w, 3))))


def _stars(canvas: _Canvas) -> None:
    rng = canvas.rng
    for _ in range(24):
        x, y, r = (
            rng.uniform(0, canvas.width),
            rng.uniform(0, canvas.horizon * 0.85),
            _SUPERSAMPLE * rng.uniform(0.6, 1.1),
        )
        canvas.draw.ellipse((x - r, y - r, x + r, y + r), fill=(250, 250, 225))


def _clouds(canvas: _Canvas, sky: Sky) -> None:
    if sky.clouds is None:
        return
    rng = canvas.rng
    for _ in range(sky.cloud_count):
        x, y = rng.uniform(0, canvas.width), canvas.height * rng.uniform(0.08, 0.3)
        s = canvas.unit * rng.uniform(0.05, 0.075)
        for dx, dy, k in ((-1.3, 0.25, 0.75), (0, 0, 1.0), (1.3, 0.25, 0.8)):
            cx, cy, r = x + dx * s, y + dy * s, k * s
            canvas.draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=sky.clouds)
        canvas.draw.rectangle((x - 1.6 * s, y + 0.25 * s, x + 1.6 * s, y + s), fill=sky.clouds)


def _orb_place(canvas: _Canvas, scene: Scene) -> float:
    """A place across the picture, as a share of its width, where no subject hides what stands in the sky."""
    rng = canvas.rng
    best, clearest = 0.5, -1.0
    for _ in range(8):
        x = rng.uniform(0.13, 0.87)
        clear = min((abs(x - PLACES[subject.place]) for subject in scene.subjects), default=1.0)
        if clear > 0.22:
            return x
        if clear > clearest:
            best, clearest = x, clear
    return best


def _orb(canvas: _Canvas, scene: Scene) -> None:
    draw, unit, rng = canvas.draw, canvas.unit, canvas.rng
    if scene.orb == "rainbow":
        cx, cy, r, band = canvas.width * 0.5, canvas.horizon, unit * 0.46, unit * 0.024
        for i, name in enumerate(("red", "orange", "yellow", "green", "blue", "purple")):
            rr = r - i * band
            draw.arc((cx - rr, cy - rr, cx + rr, cy + rr), 180, 360, fill=COLOURS[name], width=int(band) + 1)
        return
    x = canvas.width * _orb_place(canvas, scene)
    y, r = canvas.height * rng.uniform(0.12, 0.2), unit * 0.09
    if scene.sky == "orange sunset" and scene.ground not in ("snowy mountains", "pine forest"):
        y, r = canvas.horizon - unit * rng.uniform(0.04, 0.09), unit * 0.12
    draw.ellipse((x - r, y - r, x + r, y + r), fill=_ORB_COLOURS[scene.orb or "sun"])
    if scene.orb == "crescent moon":
        sky = SKIES[scene.sky]
        behind = _mix(sky.top, sky.low, min(1.0, y / canvas.horizon))
        draw.ellipse((x - r * 0.45, y - r * 1.05, x + r * 1.45, y + r * 0.85), fill=behind)


def _fill_below(canvas: _Canvas, base: float, amplitude: float, waves: float, phase: float, colour: Colour) -> None:
    """Fill what is under a wave of `waves` periods about the height `base`."""
    w, h = canvas.width, canvas.height
    step = max(1, w // 64)
    ridge = [
        (x, base - amplitude * math.sin(waves * math.tau * x / w + phase)) for x in range(-step, w + 2 * step, step)
    ]
    canvas.draw.polygon([*ridge, (ridge[-1][0], h), (ridge[0][0], h)], fill=colour)


def _ground(canvas: _Canvas, ground: str, light: float) -> None:
    w, h, horizon, rng, draw = canvas.width, canvas.height, canvas.horizon, canvas.rng, canvas.draw
    phase = rng.uniform(0, math.tau)
    match ground:
        case "green hills":
            _fill_below(canvas, horizon, h * 0.04, 1.1, phase, lit((104, 178, 92), light))
            _fill_below(canvas, horizon + h * 0.10, h * 0.035, 0.9, phase + 2, lit((74, 150, 72), light))
        case "desert dunes":
            _fill_below(canvas, horizon, h * 0.03, 1.3, phase, lit((236, 190, 118), light))
            _fill_below(canvas, horizon + h * 0.11, h * 0.045, 0.8, phase + 1.5, lit((216, 160, 86), light))
        case "snowy mountains":
            _mountains(canvas, light)
        case "pine forest":
            _pines(canvas, light)
        case "calm sea":
            draw.rectangle((0, horizon, w, h), fill=lit((44, 120, 176), light))
            for _ in range(9):
                x, y, length = rng.uniform(0, w), rng.uniform(horizon + h * 0.03, h), w * rng.uniform(0.06, 0.14)
                draw.line((x, y, x + length, y), fill=lit((110, 176, 216), light), width=_SUPERSAMPLE)
        case "wheat field":
            draw.rectangle((0, horizon, w, h), fill=lit((232, 196, 82), light))
            for i in range(-8, 9):
                row = (w * (0.5 + i * 0.035), horizon, w * (0.5 + i * 0.2), h)
                draw.line(row, fill=lit((200, 158, 54), light), width=_SUPERSAMPLE)


def _mountains(canvas: _Canvas, light: float) -> None:
    w, h, horizon, rng = canvas.width, canvas.height, canvas.horizon, canvas.rng
    foot, snow = horizon + h * 0.02, 0.36
    for i in range(3):
        x = w * (0.16 + 0.34 * i + rng.uniform(-0.04, 0.04))
        top, half = horizon - h * rng.uniform(0.22, 0.32), w * rng.uniform(0.2, 0.26)
        canvas.draw.polygon([(x - half, foot), (x, top), (x + half, foot)], fill=lit((112, 122, 146), light))
        low = top + (foot - top) * snow
        cap = [(x - half * snow, low), (x, top), (x + half * snow, low)]
        canvas.draw.polygon(cap, fill=lit((246, 250, 255), light))
    canvas.draw.rectangle((0, horizon, w, h), fill=lit((226, 234, 244), light))


def _pines(canvas: _Canvas, light: float) -> None:
    w, h, horizon, rng = canvas.width, canvas.height, canvas.horizon, canvas.rng
    count = max(6, round(9 * w / h))
    for i in range(count + 1):
        x, half = w * i / count + w * rng.uniform(-0.02, 0.02), canvas.unit * rng.uniform(0.075, 0.095)
        top = horizon - canvas.unit * rng.uniform(0.10, 0.17)
        canvas.draw.polygon([(x - half, horizon + 2), (x, top), (x + half, horizon + 2)], fill=lit((26, 78, 70), light))
    canvas.draw.rectangle((0, horizon, w, h), fill=lit((58, 116, 100), light))

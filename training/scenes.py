"""Procedural "postcards": flat-colour landscapes drawn with Pillow, each with a caption that tells what it shows.

The corpus that the bundled demo model is trained on. Everything is drawn here, so the model carries
nobody else's pictures and its training can be repeated from nothing.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (214, 48, 49),
    "orange": (240, 140, 40),
    "yellow": (250, 210, 60),
    "green": (60, 160, 75),
    "blue": (52, 110, 219),
    "purple": (130, 80, 180),
    "pink": (244, 143, 177),
    "white": (245, 245, 240),
    "black": (40, 40, 46),
}

# name -> (top of the sky, horizon, how bright the ground looks under it)
SKIES: dict[str, tuple[Colour, Colour, float]] = {
    "clear blue sky": ((84, 160, 232), (190, 224, 248), 1.0),
    "orange sunset": ((92, 60, 120), (250, 150, 70), 0.78),
    "starry night sky": ((12, 16, 44), (44, 52, 100), 0.42),
    "pink dawn": ((150, 130, 200), (252, 190, 190), 0.88),
    "grey stormy sky": ((84, 92, 104), (150, 158, 166), 0.66),
}

GROUNDS: tuple[str, ...] = ("green hills", "snowy mountains", "desert dunes", "calm sea", "wheat field")
LAND_SUBJECTS: tuple[str, ...] = ("house", "tree", "lighthouse", "windmill", "tent")
SEA_SUBJECTS: tuple[str, ...] = ("sailboat", "lighthouse")
SKY_SUBJECTS: tuple[str, ...] = ("balloon", "kite")
PLACES: dict[str, float] = {"left": 0.24, "centre": 0.5, "right": 0.76}
ORBS: tuple[str, ...] = ("sun", "full moon", "crescent moon", "rainbow")


@dataclass(frozen=True)
class Subject:
    kind: str
    colour: str
    place: str


@dataclass(frozen=True)
class Scene:
    sky: str
    ground: str
    orb: str | None
    subjects: tuple[Subject, ...] = field(default=())


def random_scene(rng: random.Random) -> Scene:
    sky = rng.choice(tuple(SKIES))
    ground = rng.choice(GROUNDS)
    if sky == "starry night sky":
        orb = rng.choice(("full moon", "crescent moon", None))
    elif sky == "grey stormy sky":
        orb = rng.choice(("rainbow", None, None))
    else:
        orb = rng.choice(("sun", "sun", None))
    places = rng.sample(tuple(PLACES), k=rng.choices((0, 1, 2, 3), weights=(1, 6, 4, 1))[0])
    subjects = []
    for place in places:
        pool = SKY_SUBJECTS if rng.random() < 0.3 else SEA_SUBJECTS if ground == "calm sea" else LAND_SUBJECTS
        subjects.append(Subject(rng.choice(pool), rng.choice(tuple(COLOURS)), place))
    return Scene(sky, ground, orb, tuple(subjects))


# ---------------------------------------------------------------- captions


def caption(scene: Scene, rng: random.Random) -> str:
    """One of many phrasings; parts are left out at random so that short prompts work too."""
    things = []
    for subject in scene.subjects:
        noun = "hot air balloon" if subject.kind == "balloon" and rng.random() < 0.4 else subject.kind
        article = "an" if subject.colour == "orange" else "a"
        text = f"{article} {subject.colour} {noun}"
        if rng.random() < 0.55:
            text += (
                rng.choice((" on the {}", " at the {}", " in the {}")).format(subject.place)
                if subject.place == "centre"
                else f" on the {subject.place}"
            )
        things.append(text)
    rng.shuffle(things)
    parts = [" and ".join(things)] if things else [rng.choice(("a landscape", "an empty landscape", "a postcard"))]
    keep = lambda p: rng.random() < p  # noqa: E731
    if keep(0.88):
        parts.append(f"{rng.choice(('on', 'over', 'with', 'in')) if things else 'of'} {scene.ground}")
    if keep(0.88):
        article = "an" if scene.sky[0] in "aeiou" else "a"
        parts.append(f"{rng.choice(('under', 'with', 'at'))} {article} {scene.sky}")
    if scene.orb and keep(0.85):
        parts.append(f"{rng.choice(('with', 'and'))} {'the' if rng.random() < 0.3 else 'a'} {scene.orb}")
    sentence = " ".join(parts) if rng.random() < 0.5 else ", ".join(parts)
    if keep(0.15):
        sentence = rng.choice(("a postcard of ", "flat illustration of ", "a picture of ")) + sentence
    return sentence


# ---------------------------------------------------------------- drawing

_SUPERSAMPLE = 3


def render(scene: Scene, width: int, height: int, rng: random.Random) -> Image.Image:
    """Draw `scene` at `width` x `height` pixels, antialiased, as an RGB image."""
    w, h = width * _SUPERSAMPLE, height * _SUPERSAMPLE
    horizon = h * rng.uniform(0.58, 0.66)
    image = _sky(scene.sky, w, h, horizon)
    draw = ImageDraw.Draw(image)
    if scene.sky == "starry night sky":
        _stars(draw, w, horizon, rng)
    if scene.orb:
        _orb(draw, scene, w, h, horizon, rng)
    if scene.sky in ("clear blue sky", "grey stormy sky", "pink dawn"):
        _clouds(draw, scene.sky, w, h, rng)
    light = SKIES[scene.sky][2]
    _ground(draw, scene, w, h, horizon, light, rng)
    unit = min(w, h)
    for subject in scene.subjects:
        x = w * (PLACES[subject.place] + rng.uniform(-0.03, 0.03))
        size = unit * rng.uniform(0.24, 0.30)
        tone = max(light, 0.62)
        if subject.kind in SKY_SUBJECTS:
            _DRAWERS[subject.kind](
                draw, x, h * rng.uniform(0.24, 0.34), size, _lit(COLOURS[subject.colour], tone), tone
            )
        else:
            base = horizon + h * (rng.uniform(0.10, 0.18) if scene.ground != "calm sea" else rng.uniform(0.08, 0.14))
            _DRAWERS[subject.kind](draw, x, base, size, _lit(COLOURS[subject.colour], tone), tone)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _lit(colour: Colour, light: float) -> Colour:
    return tuple(round(c * light) for c in colour)  # type: ignore[return-value]


def _mix(a: Colour, b: Colour, t: float) -> Colour:
    return tuple(round(x + (y - x) * t) for x, y in zip(a, b))  # type: ignore[return-value]


def _sky(name: str, w: int, h: int, horizon: float) -> Image.Image:
    top, low, _ = SKIES[name]
    column = Image.new("RGB", (1, h))
    for y in range(h):
        column.putpixel((0, y), _mix(top, low, min(1.0, y / horizon)))
    return column.resize((w, h))


def _stars(draw: ImageDraw.ImageDraw, w: int, horizon: float, rng: random.Random) -> None:
    for _ in range(26):
        x, y, r = rng.uniform(0, w), rng.uniform(0, horizon * 0.85), _SUPERSAMPLE * rng.uniform(0.5, 0.9)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(250, 250, 225))


def _orb(draw: ImageDraw.ImageDraw, scene: Scene, w: int, h: int, horizon: float, rng: random.Random) -> None:
    unit = min(w, h)
    if scene.orb == "rainbow":
        cx, cy, r, band = w * 0.5, horizon, unit * 0.46, unit * 0.022
        for i, name in enumerate(("red", "orange", "yellow", "green", "blue", "purple")):
            rr = r - i * band
            draw.arc((cx - rr, cy - rr, cx + rr, cy + rr), 180, 360, fill=COLOURS[name], width=int(band) + 1)
        return
    x, y, r = w * rng.uniform(0.15, 0.85), h * rng.uniform(0.12, 0.2), unit * 0.085
    if scene.sky == "orange sunset":
        y, r = horizon - unit * rng.uniform(0.02, 0.08), unit * 0.12
    colour = {"sun": (255, 226, 110), "full moon": (238, 238, 218), "crescent moon": (238, 238, 218)}[scene.orb]
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    if scene.orb == "crescent moon":
        sky = _mix(*SKIES[scene.sky][:2], min(1.0, y / horizon))
        draw.ellipse((x - r * 0.45, y - r * 1.05, x + r * 1.45, y + r * 0.85), fill=sky)


def _clouds(draw: ImageDraw.ImageDraw, sky: str, w: int, h: int, rng: random.Random) -> None:
    colour = {"clear blue sky": (250, 252, 255), "grey stormy sky": (108, 114, 124), "pink dawn": (255, 226, 222)}[sky]
    unit = min(w, h)
    for _ in range(3 if sky == "grey stormy sky" else 2):
        x, y, s = rng.uniform(0, w), h * rng.uniform(0.08, 0.3), unit * rng.uniform(0.05, 0.075)
        for dx, dy, k in ((-1.3, 0.25, 0.75), (0, 0, 1.0), (1.3, 0.25, 0.8)):
            draw.ellipse((x + dx * s - k * s, y + dy * s - k * s, x + dx * s + k * s, y + dy * s + k * s), fill=colour)
        draw.rectangle((x - 1.6 * s, y + 0.25 * s, x + 1.6 * s, y + s), fill=colour)


def _ridge(w: int, base: float, amplitude: float, waves: float, phase: float) -> list[tuple[float, float]]:
    step = max(1, w // 64)
    return [
        (x, base - amplitude * math.sin(waves * math.tau * x / w + phase)) for x in range(-step, w + 2 * step, step)
    ]


def _fill_below(draw: ImageDraw.ImageDraw, ridge: list[tuple[float, float]], h: int, colour: Colour) -> None:
    draw.polygon([*ridge, (ridge[-1][0], h), (ridge[0][0], h)], fill=colour)


def _ground(
    draw: ImageDraw.ImageDraw, scene: Scene, w: int, h: int, horizon: float, light: float, rng: random.Random
) -> None:
    phase = rng.uniform(0, math.tau)
    match scene.ground:
        case "green hills":
            _fill_below(draw, _ridge(w, horizon, h * 0.04, 1.1, phase), h, _lit((104, 178, 92), light))
            _fill_below(draw, _ridge(w, horizon + h * 0.10, h * 0.035, 0.9, phase + 2), h, _lit((74, 150, 72), light))
        case "snowy mountains":
            peaks = [w * (0.16 + 0.34 * i + rng.uniform(-0.04, 0.04)) for i in range(3)]
            for x in peaks:
                top, half = horizon - h * rng.uniform(0.22, 0.32), w * rng.uniform(0.2, 0.26)
                draw.polygon(
                    [(x - half, horizon + h * 0.02), (x, top), (x + half, horizon + h * 0.02)],
                    fill=_lit((112, 122, 146), light),
                )
                k = 0.36
                draw.polygon(
                    [(x - half * k, top + (horizon - top) * k), (x, top), (x + half * k, top + (horizon - top) * k)],
                    fill=_lit((246, 250, 255), light),
                )
            draw.rectangle((0, horizon, w, h), fill=_lit((226, 234, 244), light))
        case "desert dunes":
            _fill_below(draw, _ridge(w, horizon, h * 0.03, 1.3, phase), h, _lit((236, 190, 118), light))
            _fill_below(
                draw, _ridge(w, horizon + h * 0.11, h * 0.045, 0.8, phase + 1.5), h, _lit((216, 160, 86), light)
            )
        case "calm sea":
            draw.rectangle((0, horizon, w, h), fill=_lit((44, 120, 176), light))
            for _ in range(9):
                x, y, length = rng.uniform(0, w), rng.uniform(horizon + h * 0.03, h), w * rng.uniform(0.06, 0.14)
                draw.line((x, y, x + length, y), fill=_lit((110, 176, 216), light), width=_SUPERSAMPLE)
        case "wheat field":
            draw.rectangle((0, horizon, w, h), fill=_lit((232, 196, 82), light))
            for i in range(-8, 9):
                draw.line(
                    (w * (0.5 + i * 0.035), horizon, w * (0.5 + i * 0.2), h),
                    fill=_lit((200, 158, 54), light),
                    width=_SUPERSAMPLE,
                )


def _house(d, x, base, s, colour, tone):
    d.rectangle((x - s * 0.42, base - s * 0.55, x + s * 0.42, base), fill=colour)
    d.polygon(
        [(x - s * 0.54, base - s * 0.55), (x, base - s), (x + s * 0.54, base - s * 0.55)],
        fill=_lit((110, 70, 56), tone),
    )
    d.rectangle((x - s * 0.1, base - s * 0.3, x + s * 0.1, base), fill=_lit((84, 56, 46), tone))
    for dx in (-0.26, 0.26):
        d.rectangle(
            (x + dx * s - s * 0.075, base - s * 0.44, x + dx * s + s * 0.075, base - s * 0.29), fill=(255, 236, 160)
        )


def _tree(d, x, base, s, colour, tone):
    d.rectangle((x - s * 0.07, base - s * 0.5, x + s * 0.07, base), fill=_lit((108, 74, 50), tone))
    r = s * 0.38
    d.ellipse((x - r, base - s * 1.12, x + r, base - s * 1.12 + 2 * r), fill=colour)


def _lighthouse(d, x, base, s, colour, tone):
    for i in range(5):
        y0, y1 = base - s * 0.22 * (i + 1), base - s * 0.22 * i
        k0, k1 = 0.2 - 0.02 * (i + 1), 0.2 - 0.02 * i
        fill = colour if i % 2 == 0 else _lit((245, 245, 240), tone)
        d.polygon([(x - s * k1, y1), (x - s * k0, y0), (x + s * k0, y0), (x + s * k1, y1)], fill=fill)
    d.rectangle((x - s * 0.13, base - s * 1.26, x + s * 0.13, base - s * 1.1), fill=(255, 240, 150))
    d.polygon(
        [(x - s * 0.16, base - s * 1.26), (x, base - s * 1.42), (x + s * 0.16, base - s * 1.26)],
        fill=_lit((70, 60, 66), tone),
    )


def _windmill(d, x, base, s, colour, tone):
    d.polygon(
        [(x - s * 0.26, base), (x - s * 0.15, base - s * 0.85), (x + s * 0.15, base - s * 0.85), (x + s * 0.26, base)],
        fill=colour,
    )
    cx, cy = x, base - s * 0.82
    for angle in (0.6, 0.6 + math.pi / 2, 0.6 + math.pi, 0.6 + 1.5 * math.pi):
        ex, ey = cx + s * 0.5 * math.cos(angle), cy + s * 0.5 * math.sin(angle)
        d.line((cx, cy, ex, ey), fill=_lit((236, 230, 215), tone), width=max(3, int(s * 0.08)))


def _tent(d, x, base, s, colour, tone):
    d.polygon([(x - s * 0.55, base), (x, base - s * 0.72), (x + s * 0.55, base)], fill=colour)
    d.polygon([(x - s * 0.14, base), (x, base - s * 0.4), (x + s * 0.14, base)], fill=_lit((60, 50, 50), tone))


def _sailboat(d, x, base, s, colour, tone):
    d.polygon(
        [(x - s * 0.5, base - s * 0.2), (x + s * 0.5, base - s * 0.2), (x + s * 0.34, base), (x - s * 0.34, base)],
        fill=_lit((120, 78, 52), tone),
    )
    d.polygon(
        [(x - s * 0.02, base - s * 0.26), (x - s * 0.02, base - s * 1.1), (x + s * 0.46, base - s * 0.26)], fill=colour
    )
    d.polygon(
        [(x - s * 0.08, base - s * 0.26), (x - s * 0.08, base - s * 0.9), (x - s * 0.38, base - s * 0.26)],
        fill=_lit((245, 245, 240), tone),
    )


def _balloon(d, x, y, s, colour, tone):
    r = s * 0.46
    d.polygon(
        [
            (x - r * 0.8, y + r * 0.55),
            (x + r * 0.8, y + r * 0.55),
            (x + s * 0.12, y + s * 0.66),
            (x - s * 0.12, y + s * 0.66),
        ],
        fill=colour,
    )
    d.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    d.rectangle((x - s * 0.12, y + s * 0.7, x + s * 0.12, y + s * 0.88), fill=_lit((130, 86, 54), tone))


def _kite(d, x, y, s, colour, tone):
    d.line((x, y + s * 0.4, x + s * 0.18, y + s * 0.95), fill=_lit((240, 240, 240), tone), width=_SUPERSAMPLE)
    d.polygon([(x, y - s * 0.5), (x + s * 0.34, y), (x, y + s * 0.5), (x - s * 0.34, y)], fill=colour)


_DRAWERS = {
    "house": _house,
    "tree": _tree,
    "lighthouse": _lighthouse,
    "windmill": _windmill,
    "tent": _tent,
    "sailboat": _sailboat,
    "balloon": _balloon,
    "kite": _kite,
}

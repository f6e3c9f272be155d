"""How each subject is drawn: flat shapes in its colour, a darker side away from the light, fixed details.

Every drawer has the same arguments: where to draw, the middle `x` of the thing, `y` (its foot for what stands, its
middle for what flies), its size `s` in pixels, its colour, and `tone`, how bright the light is (0..1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL.ImageDraw import ImageDraw

from training.scenes import Colour

Drawer = Callable[["Brush", float, float, float], None]
Point = tuple[float, float]
SHADE = 0.8  # how bright a subject's side away from the light is


def lit(colour: Colour, light: float) -> Colour:
    """`colour` under `light`, a factor."""
    red, green, blue = colour
    return (min(255, round(red * light)), min(255, round(green * light)), min(255, round(blue * light)))


@dataclass(frozen=True)
class Brush:
    """Where and with which colours a subject is drawn."""

    draw: ImageDraw
    colour: Colour
    tone: float

    @property
    def shade(self) -> Colour:
        """The subject's own colour on the side away from the light."""
        return lit(self.colour, SHADE)

    def fixed(self, red: int, green: int, blue: int) -> Colour:
        """A detail's colour under this light."""
        return lit((red, green, blue), self.tone)

    def polygon(self, colour: Colour, *points: Point) -> None:
        """A filled polygon."""
        self.draw.polygon(list(points), fill=colour)

    def box(self, colour: Colour, x0: float, y0: float, x1: float, y1: float) -> None:
        """A filled rectangle."""
        self.draw.rectangle((x0, y0, x1, y1), fill=colour)

    def disc(self, colour: Colour, x: float, y: float, r: float) -> None:
        """A filled circle."""
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


_WINDOW = (255, 236, 160)


def _house(b: Brush, x: float, y: float, s: float) -> None:
    b.box(b.colour, x - s * 0.44, y - s * 0.55, x + s * 0.44, y)
    b.box(b.shade, x + s * 0.26, y - s * 0.55, x + s * 0.44, y)
    b.box(b.fixed(128, 72, 58), x + s * 0.2, y - s * 0.95, x + s * 0.32, y - s * 0.6)
    b.polygon(b.fixed(110, 66, 56), (x - s * 0.56, y - s * 0.54), (x, y - s), (x + s * 0.56, y - s * 0.54))
    b.box(b.fixed(84, 54, 46), x - s * 0.1, y - s * 0.32, x + s * 0.1, y)
    for side in (-0.27, 0.27):
        b.box(_WINDOW, x + (side - 0.085) * s, y - s * 0.44, x + (side + 0.085) * s, y - s * 0.26)


def _tree(b: Brush, x: float, y: float, s: float) -> None:
    b.box(b.fixed(108, 74, 50), x - s * 0.075, y - s * 0.5, x + s * 0.075, y)
    for colour, shift in ((b.shade, 0.05), (b.colour, 0.0)):
        b.disc(colour, x - s * (0.22 - shift), y - s * (0.56 - shift), s * 0.24)
        b.disc(colour, x + s * (0.22 + shift), y - s * (0.56 - shift), s * 0.24)
        b.disc(colour, x + s * shift, y - s * (0.8 - shift), s * 0.32)


def _lighthouse(b: Brush, x: float, y: float, s: float) -> None:
    for i in range(5):
        low, high = 0.22 - 0.024 * i, 0.22 - 0.024 * (i + 1)
        y0, y1 = y - s * 0.2 * i, y - s * 0.2 * (i + 1)
        colour, shade = (b.colour, b.shade) if i % 2 == 0 else (b.fixed(245, 245, 240), b.fixed(206, 206, 204))
        b.polygon(colour, (x - s * low, y0), (x - s * high, y1), (x + s * high, y1), (x + s * low, y0))
        b.polygon(shade, (x + s * low * 0.4, y0), (x + s * high * 0.4, y1), (x + s * high, y1), (x + s * low, y0))
    b.box(b.fixed(70, 60, 66), x - s * 0.17, y - s * 1.04, x + s * 0.17, y - s)
    b.box((255, 240, 150), x - s * 0.12, y - s * 1.2, x + s * 0.12, y - s * 1.04)
    b.polygon(b.fixed(70, 60, 66), (x - s * 0.17, y - s * 1.19), (x, y - s * 1.36), (x + s * 0.17, y - s * 1.19))


def _windmill(b: Brush, x: float, y: float, s: float) -> None:
    top = y - s * 0.8
    b.polygon(b.colour, (x - s * 0.3, y), (x - s * 0.17, top), (x + s * 0.17, top), (x + s * 0.3, y))
    b.polygon(b.shade, (x + s * 0.12, y), (x + s * 0.07, top), (x + s * 0.17, top), (x + s * 0.3, y))
    b.polygon(b.fixed(96, 66, 54), (x - s * 0.2, top), (x, top - s * 0.18), (x + s * 0.2, top))
    b.box(b.fixed(84, 54, 46), x - s * 0.08, y - s * 0.24, x + s * 0.08, y)
    for quarter in range(4):
        angle = 0.6 + quarter * math.pi / 2
        cos, sin = math.cos(angle), math.sin(angle)
        tip, width = s * 0.56, s * 0.06
        b.polygon(
            b.fixed(240, 234, 218),
            (x - sin * width * 0.5, top + cos * width * 0.5),
            (x + cos * tip - sin * width, top + sin * tip + cos * width),
            (x + cos * tip + sin * width, top + sin * tip - cos * width),
            (x + sin * width * 0.5, top - cos * width * 0.5),
        )
    b.disc(b.fixed(84, 54, 46), x, top, s * 0.06)


def _tent(b: Brush, x: float, y: float, s: float) -> None:
    b.polygon(b.colour, (x - s * 0.58, y), (x - s * 0.04, y - s * 0.74), (x + s * 0.3, y))
    b.polygon(b.shade, (x - s * 0.04, y - s * 0.74), (x + s * 0.3, y), (x + s * 0.6, y - s * 0.04))
    b.polygon(b.fixed(62, 50, 50), (x - s * 0.26, y), (x - s * 0.06, y - s * 0.46), (x + s * 0.08, y))


def _castle(b: Brush, x: float, y: float, s: float) -> None:
    b.box(b.shade, x - s * 0.36, y - s * 0.5, x + s * 0.36, y)
    for i in range(3):
        b.box(b.shade, x + s * (-0.2 + i * 0.16), y - s * 0.58, x + s * (-0.12 + i * 0.16), y - s * 0.5)
    for side in (-0.42, 0.42):
        b.box(b.colour, x + s * (side - 0.15), y - s * 0.76, x + s * (side + 0.15), y)
        b.polygon(
            b.fixed(86, 74, 92),
            (x + s * (side - 0.2), y - s * 0.75),
            (x + s * side, y - s * 1.08),
            (x + s * (side + 0.2), y - s * 0.75),
        )
        b.box(_WINDOW, x + s * (side - 0.05), y - s * 0.6, x + s * (side + 0.05), y - s * 0.42)
    b.box(b.fixed(70, 50, 46), x - s * 0.12, y - s * 0.22, x + s * 0.12, y)
    b.disc(b.fixed(70, 50, 46), x, y - s * 0.22, s * 0.12)


def _sailboat(b: Brush, x: float, y: float, s: float) -> None:
    b.polygon(b.colour, (x, y - s * 0.28), (x, y - s * 1.14), (x + s * 0.5, y - s * 0.28))
    b.polygon(b.shade, (x - s * 0.05, y - s * 0.28), (x - s * 0.05, y - s * 0.94), (x - s * 0.42, y - s * 0.28))
    b.box(b.fixed(90, 60, 44), x - s * 0.05, y - s * 1.16, x, y - s * 0.18)
    hull = ((x - s * 0.56, y - s * 0.22), (x + s * 0.56, y - s * 0.22), (x + s * 0.36, y), (x - s * 0.36, y))
    b.polygon(b.fixed(124, 78, 52), *hull)


def _balloon(b: Brush, x: float, y: float, s: float) -> None:
    r = s * 0.46
    low = y + s * 0.62
    b.polygon(
        b.colour, (x - r * 0.84, y + r * 0.5), (x + r * 0.84, y + r * 0.5), (x + s * 0.12, low), (x - s * 0.12, low)
    )
    b.disc(b.colour, x, y, r)
    b.draw.ellipse((x - r * 0.42, y - r, x + r * 0.42, y + r), fill=b.shade)
    b.polygon(
        b.shade, (x - r * 0.38, y + r * 0.5), (x + r * 0.38, y + r * 0.5), (x + s * 0.05, low), (x - s * 0.05, low)
    )
    b.box(b.fixed(130, 86, 54), x - s * 0.13, y + s * 0.68, x + s * 0.13, y + s * 0.88)


def _kite(b: Brush, x: float, y: float, s: float) -> None:
    width = max(2, round(s * 0.03))
    b.draw.line((x, y + s * 0.4, x + s * 0.1, y + s * 0.7, x + s * 0.24, y + s * 0.98), b.fixed(236, 236, 232), width)
    top, bottom, left, right = (
        (x, y - s * 0.54),
        (x, y + s * 0.54),
        (x - s * 0.38, y - s * 0.06),
        (x + s * 0.38, y - s * 0.06),
    )
    b.polygon(b.colour, top, left, bottom)
    b.polygon(b.shade, top, right, bottom)


def _snowman(b: Brush, x: float, y: float, s: float) -> None:
    white, shade, coal = b.fixed(250, 252, 255), b.fixed(206, 216, 232), b.fixed(44, 40, 44)
    for centre, r in ((0.27, 0.29), (0.66, 0.21), (0.95, 0.16)):
        b.disc(shade, x, y - s * centre, s * r)
        b.disc(white, x - s * r * 0.14, y - s * (centre + r * 0.1), s * r * 0.86)
    b.box(b.colour, x - s * 0.19, y - s * 0.85, x + s * 0.19, y - s * 0.76)
    b.box(b.colour, x + s * 0.04, y - s * 0.8, x + s * 0.14, y - s * 0.56)
    b.polygon(b.fixed(240, 130, 40), (x, y - s * 1.0), (x + s * 0.24, y - s * 0.94), (x, y - s * 0.9))
    b.box(coal, x - s * 0.2, y - s * 1.12, x + s * 0.18, y - s * 1.06)
    b.box(coal, x - s * 0.13, y - s * 1.32, x + s * 0.11, y - s * 1.08)


DRAWERS: dict[str, Drawer] = {
    "house": _house,
    "tree": _tree,
    "lighthouse": _lighthouse,
    "windmill": _windmill,
    "tent": _tent,
    "castle": _castle,
    "sailboat": _sailboat,
    "balloon": _balloon,
    "kite": _kite,
    "snowman": _snowman,
}

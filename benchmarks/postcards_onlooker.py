"""What a postcard shows, read from its pixels: the renderer's counterpart, for measuring what a model draws.

It knows the colours and places the renderer would have used and nothing of how a model works, so it judges a drawn
picture and a photograph of one alike. It is calibrated on the renderer's own pictures (tests/unit).
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from training.drawing import DARKEST, draw_scene
from training.scenes import COLOURS, GROUNDS, PLACES, SKIES, SKY_SUBJECTS, Colour, Scene, Subject, kinds_on
from training.subjects import SHADE, lit

SIDE = 128
_Pixels = NDArray[np.float32]
_Mask = NDArray[np.bool_]

# The ground's colour near the picture's lower edge, before the sky's light.
_NEAR_GROUND: dict[str, Colour] = {
    "green hills": (74, 150, 72),
    "snowy mountains": (226, 234, 244),
    "desert dunes": (216, 160, 86),
    "calm sea": (44, 120, 176),
    "wheat field": (232, 196, 82),
    "pine forest": (58, 116, 100),
}
_HORIZON = 0.62  # of the height, the middle of what the renderer draws
_SUN, _MOON = (255, 226, 110), (238, 238, 218)
_RAINBOW = ("red", "orange", "yellow", "green", "blue", "purple")
_NEAR = 40.0  # of RGB distance: nearer is "this colour"
_LOOKS = 6  # drawings of each kind that a picture is compared with
_PRESENT = 0.2  # of a subject's usual pixels that must have its colour


def pixels_of(picture: Image.Image) -> _Pixels:
    """[128, 128, 3], 0..255."""
    if picture.size != (SIDE, SIDE):
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(picture.convert("RGB"), dtype=np.float32)


def _nearest(colour: _Pixels, named: Mapping[str, Colour | tuple[float, ...]]) -> str:
    return min(named, key=lambda name: float(np.square(colour - np.array(named[name])).sum()))


def see_sky(picture: _Pixels) -> str:
    """The sky whose colours at two heights are nearest; medians across the picture ignore what stands before it."""
    bands = ((0.0, 0.07), (0.28, 0.34))
    seen = np.concatenate([np.median(picture[_rows(low, high)], axis=(0, 1)) for low, high in bands])
    named = {}
    for name, sky in SKIES.items():
        shares = [np.mean(band) / _HORIZON for band in bands]
        named[name] = tuple(np.concatenate([np.array(sky.top) * (1 - s) + np.array(sky.low) * s for s in shares]))
    return _nearest(seen, named)


def see_ground(picture: _Pixels, sky: str) -> str:
    """The ground whose colour under this sky is nearest, in the strip before everything that stands on it."""
    seen = np.median(picture[_rows(0.88, 1.0)], axis=(0, 1))
    return _nearest(seen, {name: lit(_NEAR_GROUND[name], SKIES[sky].light) for name in GROUNDS})


def see_orb(picture: _Pixels) -> str | None:
    """What stands in the sky: told by its colour, its size and how much of its box it fills."""
    above = picture[_rows(0.0, 0.66)]
    bands = [float(_is(above, COLOURS[name], _NEAR).mean()) for name in _RAINBOW]
    if sum(band > 0.006 for band in bands) >= 4:
        return "rainbow"
    sun, _ = _largest(_is(above, _SUN, 34))
    if sun > 0.007:
        return "sun"
    area, fill = _largest(_is(above, _MOON, 44))
    if area > 0.003:
        return "full moon" if fill > 0.55 else "crescent moon"
    return None


def _rows(low: float, high: float) -> slice:
    return slice(round(low * SIDE), round(high * SIDE))


def _shift(by: int) -> slice:
    """The columns that two windows have in common when one lies `by` further right."""
    return slice(max(0, by), None if by >= 0 else by)


def _is(picture: _Pixels, colour: Colour, within: float) -> _Mask:
    return np.square(picture - np.array(colour, dtype=np.float32)).sum(-1) < within**2


def _largest(mask: _Mask) -> tuple[float, float]:
    """Of the largest connected part: its share of a square picture, and its share of its bounding square."""
    labels, count = ndimage.label(mask)
    if not count:
        return 0.0, 0.0
    sizes = ndimage.sum_labels(mask, labels, range(1, count + 1))
    which = int(np.argmax(sizes))
    rows, columns = ndimage.find_objects(labels)[which]
    longest = max(rows.stop - rows.start, columns.stop - columns.start)
    return float(sizes[which]) / SIDE**2, float(sizes[which]) / longest**2


class Onlooker:
    """Judges pictures of scenes. It draws a few itself to know where a subject's pixels usually are."""

    def __init__(self, seed: int = 11) -> None:
        self._seed = seed
        self._usual: dict[tuple[str, str, int], _Mask] = {}

    def usual(self, kind: str, place: str, count: int) -> _Mask:
        """Where more than half of the renderer's drawings have this kind at this place among `count` subjects."""
        key = (kind, place, count)
        if key not in self._usual:
            rng = random.Random(self._seed)
            alone = Scene("clear blue sky", "calm sea" if kind == "sailboat" else "wheat field", None, ())
            crowd = tuple(Subject(kind, "red", place) for _ in range(count))
            scene = Scene(alone.sky, alone.ground, None, crowd)
            masks = [np.asarray(draw_scene(scene, SIDE, SIDE, rng).mask) > 128 for _ in range(12)]
            self._usual[key] = np.mean(masks, axis=0) > (0.5 if count == 1 else 0.8)
        return self._usual[key]

    def coloured(self, picture: _Pixels, colour: str, subject: Subject, scene: Scene, place: str) -> float:
        """The share of the subject's usual pixels, were it at `place`, that are nearest to `colour`."""
        region = picture[self.usual(subject.kind, place, len(scene.subjects))]
        tone = max(SKIES[scene.sky].light, DARKEST)
        names = list(COLOURS)
        palette = np.array([lit(lit(COLOURS[name], tone), shade) for name in names for shade in (1.0, SHADE)])
        distances = np.sqrt(np.square(region[:, None] - palette[None]).sum(-1))
        nearest = np.array(names).repeat(2)[distances.argmin(1)]
        return float(((nearest == colour) & (distances.min(1) < _NEAR)).mean())

    def tellable(self, scene: Scene) -> bool:
        """Whether each subject's colour stands out: the same scene without subjects shows little of it anywhere."""
        colours = [subject.colour for subject in scene.subjects]
        if len(set(colours)) < len(colours):
            return False
        rng = random.Random(self._seed)
        empty = Scene(scene.sky, scene.ground, scene.orb)
        pictures = [pixels_of(draw_scene(empty, SIDE, SIDE, rng).picture) for _ in range(2)]
        return all(
            self.coloured(picture, subject.colour, subject, scene, place) < 0.08
            for picture in pictures
            for subject in scene.subjects
            for place in PLACES
        )

    def judge(self, picture: Image.Image, scene: Scene) -> dict[str, bool]:
        """Whether what `scene` asks for is in the picture: sky, ground, orb, and its subjects' colour, side and kind.

        An attribute that the scene does not have is absent; one of several subjects is right where all are.
        """
        seen = pixels_of(picture)
        right = {"sky": see_sky(seen) == scene.sky, "ground": see_ground(seen, scene.sky) == scene.ground}
        if scene.orb:
            right["orb"] = see_orb(seen) == scene.orb
        if scene.subjects:
            right["colour"] = all(self._colour_is_right(seen, subject, scene) for subject in scene.subjects)
            right["side"] = all(self._side_is_right(seen, subject, scene) for subject in scene.subjects)
            right["kind"] = all(self._kind_is_right(seen, subject, scene) for subject in scene.subjects)
        return right

    def _colour_is_right(self, seen: _Pixels, subject: Subject, scene: Scene) -> bool:
        shares = {c: self.coloured(seen, c, subject, scene, subject.place) for c in COLOURS}
        if subject.kind == "lighthouse":  # every second stripe is white, whatever its colour
            shares["white"] = 2 * shares["white"] - 1
        found = shares[subject.colour]
        return max(shares, key=lambda c: shares[c]) == subject.colour and found > _PRESENT

    def _side_is_right(self, seen: _Pixels, subject: Subject, scene: Scene) -> bool:
        shares = {p: self.coloured(seen, subject.colour, subject, scene, p) for p in PLACES}
        return max(shares, key=lambda p: shares[p]) == subject.place and shares[subject.place] > _PRESENT

    def _kind_is_right(self, seen: _Pixels, subject: Subject, scene: Scene) -> bool:
        """Nearest of the renderer's own drawings of this place, with each kind that might stand there."""
        kinds = SKY_SUBJECTS if subject.kind in SKY_SUBJECTS else kinds_on(scene.ground)
        others = tuple(other for other in scene.subjects if other != subject)
        centre = round(PLACES[subject.place] * SIDE)
        left, right = max(0, centre - 22), min(SIDE, centre + 22)
        top, bottom = (3, 70) if subject.kind in SKY_SUBJECTS else (36, 110)
        window = seen[top:bottom, left:right]

        def distance(kind: str) -> float:
            rng = random.Random(self._seed)
            asked = Scene(scene.sky, scene.ground, None, (*others, Subject(kind, subject.colour, subject.place)))
            drawn = [pixels_of(draw_scene(asked, SIDE, SIDE, rng).picture) for _ in range(_LOOKS)]
            return min(
                float(
                    np.abs(
                        picture[top + dy : bottom + dy, left : left + window.shape[1]][:, _shift(dx)]
                        - window[:, _shift(-dx)]
                    ).mean()
                )
                for picture in drawn
                for dx in (-4, 0, 4)
                for dy in (-3, 0, 3)
            )

        return min(kinds, key=distance) == subject.kind

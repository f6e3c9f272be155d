"""What a postcard may show: the vocabulary, and scenes drawn by chance from it.

A scene says what is seen; `captions` tells it in words, `drawing` draws it. Nothing in the pictures is anybody
else's, so the model that learns them carries nobody else's pictures and can be trained anew from nothing.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Sky:
    """Colours at the top and at the horizon, how bright things are under it, and the colour of its clouds."""

    top: Colour
    low: Colour
    light: float
    clouds: Colour | None = None
    cloud_count: int = 0


SKIES: dict[str, Sky] = {
    "clear blue sky": Sky((84, 160, 232), (190, 224, 248), 1.0, (250, 252, 255), 2),
    "orange sunset": Sky((92, 60, 120), (250, 150, 70), 0.78),
    "starry night sky": Sky((12, 16, 44), (44, 52, 100), 0.42),
    "pink dawn": Sky((150, 130, 200), (252, 190, 190), 0.88, (255, 226, 222), 2),
    "grey stormy sky": Sky((84, 92, 104), (150, 158, 166), 0.66, (108, 114, 124), 3),
    "violet twilight": Sky((58, 34, 112), (178, 104, 190), 0.62),
}

GROUNDS: tuple[str, ...] = (
    "green hills",
    "snowy mountains",
    "desert dunes",
    "calm sea",
    "wheat field",
    "pine forest",
)
LAND_SUBJECTS: tuple[str, ...] = ("house", "tree", "lighthouse", "windmill", "tent", "castle")
SEA_SUBJECTS: tuple[str, ...] = ("sailboat", "lighthouse")
SKY_SUBJECTS: tuple[str, ...] = ("balloon", "kite")
# Known to the renderer alone: what an adapter teaches.
TAUGHT_SUBJECTS: tuple[str, ...] = ("snowman",)
PLACES: dict[str, float] = {"left": 0.24, "centre": 0.5, "right": 0.76}
ORBS: tuple[str, ...] = ("sun", "full moon", "crescent moon", "rainbow")


@dataclass(frozen=True)
class Subject:
    """A thing in the picture: its kind, a name of `COLOURS` and a name of `PLACES`."""

    kind: str
    colour: str
    place: str


@dataclass(frozen=True)
class Scene:
    """A whole picture: names of `SKIES`, `GROUNDS` and `ORBS`, and up to three subjects at different places."""

    sky: str
    ground: str
    orb: str | None
    subjects: tuple[Subject, ...] = ()


def orbs_of(sky: str) -> tuple[str, ...]:
    """What may stand in this sky."""
    match sky:
        case "starry night sky" | "violet twilight":
            return ("full moon", "crescent moon")
        case "grey stormy sky":
            return ("rainbow",)
        case _:
            return ("sun",)


def kinds_on(ground: str) -> tuple[str, ...]:
    """What may stand on this ground."""
    return SEA_SUBJECTS if ground == "calm sea" else LAND_SUBJECTS


def is_held_out(scene: Scene) -> bool:
    """Whether no training may draw this scene: one in eight, told by what it shows, whatever the order of naming."""
    said = [scene.sky, scene.ground, scene.orb or "", *sorted(str(subject) for subject in scene.subjects)]
    return bool(scene.subjects) and zlib.crc32("/".join(said).encode()) % 8 == 0


def random_scene(rng: random.Random, held_out: bool = False) -> Scene:
    """A scene of the vocabulary; nine in ten have a subject, two thirds something in the sky.

    Of the scenes for training, or of those that are held out from it.
    """
    while is_held_out(scene := _any_scene(rng)) != held_out:
        pass
    return scene


def _any_scene(rng: random.Random) -> Scene:
    sky, ground = rng.choice(tuple(SKIES)), rng.choice(GROUNDS)
    orb = rng.choice(orbs_of(sky)) if rng.random() < 0.67 else None
    places = rng.sample(tuple(PLACES), k=rng.choices((0, 1, 2, 3), weights=(1, 7, 4, 1))[0])
    subjects = []
    for place in places:
        pool = SKY_SUBJECTS if rng.random() < 0.25 else kinds_on(ground)
        subjects.append(Subject(rng.choice(pool), rng.choice(tuple(COLOURS)), place))
    return Scene(sky, ground, orb, tuple(subjects))

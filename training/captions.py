"""Scenes in words: many phrasings of each, and the one plain phrasing that measurements use."""

from __future__ import annotations

import random

from training.scenes import Scene, Subject


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _where(place: str, rng: random.Random) -> str:
    return f" {rng.choice(('on', 'at', 'in'))} the centre" if place == "centre" else f" on the {place}"


def _thing(subject: Subject, rng: random.Random) -> str:
    noun = "hot air balloon" if subject.kind == "balloon" and rng.random() < 0.3 else subject.kind
    return _article(f"{subject.colour} {noun}") + (_where(subject.place, rng) if rng.random() < 0.9 else "")


def caption(scene: Scene, rng: random.Random) -> str:
    """One of many phrasings. Parts are left out at random, so that short prompts work too."""
    things = [_thing(subject, rng) for subject in scene.subjects]
    rng.shuffle(things)
    parts = [" and ".join(things) or rng.choice(("a landscape", "an empty landscape", "a postcard"))]
    bare = bool(things) and rng.random() < 0.04
    if not bare and rng.random() < 0.92:
        parts.append(f"{rng.choice(('on', 'over', 'with', 'in')) if things else 'of'} {scene.ground}")
    if not bare and rng.random() < 0.92:
        parts.append(f"{rng.choice(('under', 'with', 'at'))} {_article(scene.sky)}")
    if scene.orb and not bare and rng.random() < 0.9:
        parts.append(f"{rng.choice(('with', 'and'))} {'the' if rng.random() < 0.3 else 'a'} {scene.orb}")
    sentence = (" " if rng.random() < 0.5 else ", ").join(parts)
    if rng.random() < 0.12:
        sentence = rng.choice(("a postcard of ", "flat illustration of ", "a picture of ")) + sentence
    return sentence


def plain_caption(scene: Scene) -> str:
    """Everything the scene holds, always in the same words: the prompt of a measurement."""
    things = [
        f"{_article(f'{thing.colour} {thing.kind}')} {'in' if thing.place == 'centre' else 'on'} the {thing.place}"
        for thing in scene.subjects
    ]
    text = f"{' and '.join(things)} on {scene.ground}" if things else f"a landscape of {scene.ground}"
    text += f" under {_article(scene.sky)}"
    return text + (f" with a {scene.orb}" if scene.orb else "")

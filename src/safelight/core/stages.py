"""Stages: what a recipe asks for, one after another. Nouns without torch, so that anyone can count and explain them.

A recipe is a generator: it yields a stage (or a tuple of stages, to be done side by side) and is sent a `Handle`
(or a tuple of them) that later stages refer to. The worker's loop has a handler for each kind of stage.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from safelight.core.files import FileRef, UploadRef

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Handle:
    """The kept result of stage `number` (counted in the order they were asked for)."""

    number: int


@dataclass(frozen=True)
class AdapterUse:
    """A LoRA on a component, with its strength."""

    file: FileRef
    strength: float


@dataclass(frozen=True)
class NetworkUse:
    """A checkpoint's network (or text encoder) with the adapters it runs with."""

    model: FileRef
    family: str
    adapters: tuple[AdapterUse, ...] = ()


@dataclass(frozen=True)
class EncodeText:
    """A prompt becomes a timeline of conditionings. Result: a conditioning."""

    encoder: NetworkUse
    prompt: str
    parser: str
    clip_skip: int


@dataclass(frozen=True)
class EncodePixels:
    """A picture becomes a latent of `width` x `height` pixels. Result: a latent [C, height/factor, width/factor]."""

    model: NetworkUse
    image: UploadRef
    width: int
    height: int
    resize: Literal["stretch", "crop", "pad"]


@dataclass(frozen=True)
class ReadMask:
    """A mask picture becomes a mask of the latent's size and one of the pixels'. Result: a mask, 1 = repaint."""

    mask: UploadRef
    width: int
    height: int
    resize: Literal["stretch", "crop", "pad"]
    blur: int
    factor: int


@dataclass(frozen=True)
class GuidanceUse:
    """A guidance in the chain: its kind, its parameters, and the kept results it needs."""

    kind: str
    options: Mapping[str, Scalar] = field(default_factory=dict)
    inputs: Mapping[str, Handle] = field(default_factory=dict)


@dataclass(frozen=True)
class Segment:
    """A part of a walk: from step `start` on (a share of the plan, 0..1), with which network, prompts and guidance.

    `guidance`: the chain, innermost first; its first is a base such as `cfg`.
    """

    network: NetworkUse
    positive: Handle
    negative: Handle
    guidance_scale: float
    guidance: tuple[GuidanceUse, ...]
    start: float = 0.0


@dataclass(frozen=True)
class NoiseUse:
    """A picture's stream of noise: its source, the job's seed, and which picture of how many it is."""

    source: str
    seed: int
    picture: int
    pictures: int


@dataclass(frozen=True)
class Sample:
    """A walk down the sigmas. Result: a latent.

    `strength`: share of the schedule that is walked; below 1 it starts from `latent`.
    """

    picture: int
    width: int
    height: int
    segments: tuple[Segment, ...]
    sampler: str
    sampler_options: Mapping[str, Scalar]
    schedule: str
    schedule_options: Mapping[str, Scalar]
    steps: int
    noise: NoiseUse
    latent: Handle | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class Decode:
    """A latent becomes pixels. Result: a picture [height, width, 3], 8 bit."""

    model: NetworkUse
    latent: Handle


@dataclass(frozen=True)
class Composite:
    """Put a picture into another where the mask says. Result: a picture."""

    pixels: Handle
    background: UploadRef
    mask: Handle
    width: int
    height: int
    resize: Literal["stretch", "crop", "pad"]


@dataclass(frozen=True)
class Save:
    """A picture becomes an artifact. Result: the artifact's facts.

    `metadata`: text chunks to write into the file; empty where the owner opted out.
    """

    pixels: Handle
    index: int
    seed: int
    format: Literal["png", "webp", "jpeg", "avif"]
    quality: int
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class LoadModel:
    """Components of a checkpoint come into memory. Result: facts of each.

    `dtype`: the precision that is asked for, or auto. `pinned`: they stay until they are unloaded or the worker ends.
    """

    use: NetworkUse
    components: tuple[str, ...]
    dtype: str
    pinned: bool


@dataclass(frozen=True)
class UnloadModel:
    """A checkpoint leaves memory, pinned or not; None: all that is idle and not pinned. Result: facts of what left."""

    model: FileRef | None


Stage = Any
"""One of the nouns above, or a stage class of an extension's own, for which it registers a handler."""

Recipe = Generator[Stage | tuple[Stage, ...], Any, Mapping[str, Any] | Handle | None]
"""Yields stages, is sent handles, returns the job's result (JSON), the handle of the facts that are it, or None."""

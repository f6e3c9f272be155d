"""The recipes of image.generate, image.transform and image.inpaint."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from safelight.core.operations.image import ResolvedGenerate, ResolvedInpaint, ResolvedTransform
from safelight.core.stages import (
    AdapterUse,
    Composite,
    Decode,
    EncodePixels,
    EncodeText,
    GuidanceUse,
    Handle,
    NetworkUse,
    NoiseUse,
    ReadMask,
    Recipe,
    Sample,
    Save,
    Segment,
)
from safelight.workflows.infotext import metadata

SEEDS = 2**64
"""Seeds wrap around here, as their generators do."""

Finish = Callable[[tuple[Handle, ...]], Generator[Any, Any, tuple[Handle, ...]]]


def generate(request: ResolvedGenerate) -> Recipe:
    """Encode the prompts; sample and decode the pictures side by side; save them."""
    return (yield from _pictures(request))


def transform(request: ResolvedTransform) -> Recipe:
    """As generate, from a picture's latent, over the last share of the schedule."""
    latent: Handle = yield _encode(request)
    return (yield from _pictures(request, latent=latent, strength=request.strength))


def inpaint(request: ResolvedInpaint) -> Recipe:
    """As transform, kept to the picture's own latent outside the mask, and composited with its own pixels there."""
    latent: Handle = yield _encode(request)
    mask: Handle = yield ReadMask(
        mask=request.mask,
        width=request.width,
        height=request.height,
        resize=request.resize,
        blur=request.mask_blur,
        factor=request.factor,
    )
    keep = GuidanceUse("keep_outside", {}, {"latent": latent, "mask": mask})

    def finish(pictures: tuple[Handle, ...]) -> Generator[Any, Any, tuple[Handle, ...]]:
        size = (request.width, request.height)
        mixed: tuple[Handle, ...] = yield tuple(
            Composite(picture, request.image, mask, *size, request.resize) for picture in pictures
        )
        return mixed

    return (yield from _pictures(request, latent=latent, strength=request.strength, around=(keep,), finish=finish))


def _pictures(
    request: ResolvedGenerate,
    *,
    latent: Handle | None = None,
    strength: float = 1.0,
    around: Sequence[GuidanceUse] = (),
    finish: Finish | None = None,
) -> Recipe:
    network = NetworkUse(
        request.model, request.family, tuple(AdapterUse(lora.file, lora.strength) for lora in request.loras)
    )
    encoder = NetworkUse(
        request.model, request.family, tuple(AdapterUse(lora.file, lora.text_strength) for lora in request.loras)
    )
    positive, negative = yield tuple(
        EncodeText(encoder, prompt, request.parser, request.clip_skip)
        for prompt in (request.prompt, request.negative_prompt)
    )
    chosen = tuple(GuidanceUse(use.kind, use.options) for use in request.guidance)
    segment = Segment(network, positive, negative, request.guidance_scale, (GuidanceUse("cfg"), *chosen, *around))
    numbers = range(request.batch_size)
    latents = yield tuple(
        Sample(
            picture=number,
            width=request.width,
            height=request.height,
            segments=(segment,),
            sampler=request.sampler,
            sampler_options=request.sampler_options,
            schedule=request.schedule,
            schedule_options=request.schedule_options,
            steps=request.steps,
            noise=NoiseUse(request.noise.source, request.seed, number, request.batch_size),
            latent=latent,
            strength=strength,
        )
        for number in numbers
    )
    pictures = yield tuple(Decode(network, each) for each in latents)
    if finish is not None:
        pictures = yield from finish(pictures)
    yield tuple(
        Save(
            pixels=picture,
            index=number,
            seed=(request.seed + number) % SEEDS,
            format=request.output.format,
            quality=request.output.quality,
            metadata=metadata(request, number),
        )
        for number, picture in zip(numbers, pictures, strict=True)
    )
    return {"seed": request.seed, "pictures": request.batch_size}


def _encode(request: ResolvedTransform) -> EncodePixels:
    model = NetworkUse(request.model, request.family)
    return EncodePixels(model, request.image, request.width, request.height, request.resize)

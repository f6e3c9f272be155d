"""Resolving: what was asked becomes complete. Names become pinned files, defaults are filled in, a seed is drawn.

The outcome is stored with the job, so that a rerun needs no table of defaults. Everything that is wrong is gathered
and told at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, TypeVar

from safelight.core.families import FamilySpec
from safelight.core.operations import fields as f
from safelight.core.operations.image import (
    ImageGenerate,
    ImageInpaint,
    ImageTransform,
    ResolvedGenerate,
    ResolvedGuidance,
    ResolvedInpaint,
    ResolvedLora,
    ResolvedTransform,
)
from safelight.core.parameters import complete_options
from safelight.errors import InvalidRequest, InvalidValue
from safelight.workflows.context import Context, ModelEntry

T = TypeVar("T")


def generate(request: ImageGenerate, context: Context) -> ResolvedGenerate:
    """A complete image.generate; InvalidRequest with all that is wrong."""
    return ResolvedGenerate(operation="image.generate", **_complete(request, context))


def transform(request: ImageTransform, context: Context) -> ResolvedTransform:
    """A complete image.transform; the size is the picture's own where none is asked for."""
    return ResolvedTransform(operation="image.transform", **_complete(request, context), **_source(request, context))


def inpaint(request: ImageInpaint, context: Context) -> ResolvedInpaint:
    """A complete image.inpaint."""
    masked: dict[str, Any] = {"mask": context.pictures["mask"], "mask_blur": request.mask_blur}
    source = _source(request, context)
    return ResolvedInpaint(operation="image.inpaint", **_complete(request, context), **source, **masked)


class _Faults:
    """Gathers what is wrong, so that one answer tells it all."""

    def __init__(self) -> None:
        self.found: list[InvalidValue] = []

    def collect(self, work: Callable[[], T], otherwise: T) -> T:
        try:
            return work()
        except InvalidRequest as error:
            self.found.extend(error.errors)
            return otherwise

    def check(self) -> None:
        if self.found:
            raise InvalidRequest(*self.found)


def _complete(request: ImageGenerate, context: Context) -> dict[str, Any]:
    model = context.catalog.model(request.model)
    family = context.tables.families.get(model.family)
    faults = _Faults()
    if request.operation not in family.operations:
        can = ", ".join(family.operations)
        faults.found.append(InvalidValue("model", f"{model.ref.name} cannot do {request.operation}", f"It can: {can}."))
    if model.text_layers and request.clip_skip > model.text_layers:
        said = f"there is no layer {request.clip_skip}: the text encoder of {model.ref.name} has {model.text_layers}"
        hint = f"Allowed: 1 to {model.text_layers}; 1 is the last layer."
        faults.found.append(InvalidValue("clip_skip", said, hint))
    width, height = _size(request, context, model, family, faults)
    walk = _walk(request, context, model, family, faults)
    loras = [
        faults.collect(lambda lora=lora, index=index: _lora(lora, index, context), None)  # type: ignore[misc]
        for index, lora in enumerate(request.loras)
    ]
    nothing: tuple[ResolvedGuidance, ...] = ()
    guidance = faults.collect(lambda: _guidance(request, context, model), nothing)
    parser = faults.collect(lambda: context.tables.parsers.get(request.parser, "parser").id, "")
    faults.check()
    defaults = model.defaults
    return {
        **walk,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "model": model.ref,
        "family": family.id,
        "factor": family.factor,
        "steps": _first(request.steps, defaults.get("steps"), family.steps),
        "guidance_scale": _first(request.guidance_scale, defaults.get("guidance_scale"), family.guidance_scale),
        "width": width,
        "height": height,
        "seed": request.seed if request.seed is not None else secrets.randbelow(f.RANDOM_SEED_BELOW),
        "batch_size": request.batch_size,
        "clip_skip": request.clip_skip,
        "loras": tuple(loras),
        "guidance": guidance,
        "parser": parser,
        "noise": request.noise,
        "output": request.output,
        "deterministic": request.deterministic,
    }


def _walk(
    request: ImageGenerate, context: Context, model: ModelEntry, family: FamilySpec, faults: _Faults
) -> dict[str, Any]:
    """Sampler and schedule with their options, by their canonical names."""
    asked = _first(request.sampler, model.defaults.get("sampler"), family.sampler)
    sampler = faults.collect(lambda: context.tables.samplers.get(asked, "sampler"), None)
    named = _first(request.schedule, model.defaults.get("schedule"), family.schedule)
    schedule = faults.collect(lambda: context.tables.schedules.get(named, "schedule"), None)
    if sampler is not None and family.path not in sampler.paths:
        valid = ", ".join(each.id for each in context.tables.samplers if family.path in each.paths)
        faults.found.append(InvalidValue("sampler", f"{sampler.id} does not walk {family.label}", f"Use: {valid}."))
    if schedule is not None and schedule.code is None:  # "automatic" stands for the model's own
        own = _first(model.defaults.get("schedule"), family.schedule)
        schedule = context.tables.schedules.get(own, "schedule")
    options: dict[str, dict[str, f.Scalar]] = {"sampler_options": {}, "schedule_options": {}}
    for name, record, given in (
        ("sampler_options", sampler, request.sampler_options),
        ("schedule_options", schedule, request.schedule_options),
    ):
        if record is not None:
            options[name] = faults.collect(
                lambda record=record, given=given, name=name: complete_options(  # type: ignore[misc]
                    record, given, path=family.path, at=name
                ),
                {},
            )
    return {"sampler": sampler.id if sampler else "", "schedule": schedule.id if schedule else "", **options}


def _size(
    request: ImageGenerate, context: Context, model: ModelEntry, family: FamilySpec, faults: _Faults
) -> tuple[int, int]:
    """Width and height: as asked, else the picture's own (to the grid), else the model's, else the family's."""
    picture = context.pictures["image"] if isinstance(request, ImageTransform) else None
    sides: dict[str, int] = {}
    for name, native in zip(("width", "height"), family.native, strict=True):
        own = None if picture is None else _to_grid(getattr(picture, name), family.grid)
        side = int(_first(getattr(request, name), own, model.defaults.get(name), native))
        if side % family.grid:
            below = side - side % family.grid
            hint = f"Use a multiple of {family.grid}, such as {max(64, below)} or {below + family.grid}."
            faults.found.append(InvalidValue(name, f"{side} is not a multiple of {family.grid}", hint))
        sides[name] = side
    pixels = sides["width"] * sides["height"]
    if pixels > f.MAX_PIXELS:
        hint = f"At most {f.MAX_PIXELS:,} pixels a picture, such as 4000 x 4000."
        faults.found.append(InvalidValue("width", f"{sides['width']} x {sides['height']} is {pixels:,} pixels", hint))
    return sides["width"], sides["height"]


def _to_grid(side: int, grid: int) -> int:
    return min(4096 - 4096 % grid, max(64, side - side % grid))


def _lora(use: f.LoraUse, index: int, context: Context) -> ResolvedLora:
    file = context.catalog.lora(use.name, f"loras.{index}.name")
    text = use.strength if use.text_strength is None else use.text_strength
    return ResolvedLora(file=file, strength=use.strength, text_strength=text)


def _guidance(request: ImageGenerate, context: Context, model: ModelEntry) -> tuple[ResolvedGuidance, ...]:
    """The guidances asked for; where none is, the rescaling that the model's own metadata advises."""
    if not request.guidance:
        amount = model.defaults.get("guidance_rescale")
        if not amount:
            return ()
        return (ResolvedGuidance(kind="rescale", options={"amount": float(amount)}),)
    chosen = []
    for index, use in enumerate(request.guidance):
        record = context.tables.guidances.get(use.kind, f"guidance.{index}.kind")
        if not record.public:
            kinds = ", ".join(each.id for each in context.tables.guidances if each.public)
            raise InvalidRequest(
                InvalidValue(f"guidance.{index}.kind", f"{record.id} is not asked for by name", f"Use one of: {kinds}.")
            )
        options = complete_options(record, use.options(), at=f"guidance.{index}")
        chosen.append(ResolvedGuidance(kind=record.id, options=options))
    return tuple(chosen)


def _source(request: ImageTransform, context: Context) -> dict[str, Any]:
    return {"image": context.pictures["image"], "strength": request.strength, "resize": request.resize}


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)

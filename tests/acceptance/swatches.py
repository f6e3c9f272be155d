"""An extension, through the public ways only: a sampler, a guidance, an operation with a stage of its own."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from safelight.core.guidances import GuidanceRecord
from safelight.core.handlers import StageRecord
from safelight.core.operations import OperationSpec
from safelight.core.parameters import Parameter
from safelight.core.samplers import SamplerRecord
from safelight.core.stages import Save
from safelight.core.tables import Tables
from safelight.engine.guidance import Answer, Guided
from safelight.engine.results import Picture
from safelight.engine.sampling.step import Denoised, Moved, Query, Step, Steps
from safelight.engine.work import PIECE, Desk, Work
from safelight.workflows.context import Context


def leap(step: Step) -> Steps:
    """Take the clean latent at its word, and add no noise back but what the next sigma wants of the old."""
    denoised = yield Query(step.x, step.sigma)
    share = step.sigma_next / step.sigma
    return Moved(denoised.guided + (step.x - denoised.guided) * share)


def dim(query: Query, run: Guided) -> Answer:
    """Scale the clean latent."""
    denoised = yield from run.ask(query)
    return Denoised(denoised.guided * float(run.options["by"]), denoised.unconditional)


class SwatchRequest(BaseModel):
    """A picture of one colour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: Literal["image.swatch"] = "image.swatch"
    grey: Annotated[int, Field(ge=0, le=255, description="the level")]
    deterministic: bool = False


class ResolvedSwatch(SwatchRequest):
    """The same, complete."""

    side: int


@dataclass(frozen=True)
class Fill:
    """A square of one level. Result: a picture."""

    grey: int
    side: int


def resolve(request: SwatchRequest, context: Context) -> ResolvedSwatch:
    """Its side is the bundled model's."""
    side = context.catalog.model(None).defaults["width"]
    return ResolvedSwatch(grey=request.grey, side=side)


def recipe(request: ResolvedSwatch) -> Generator[Any, Any, dict[str, Any]]:
    """Fill, then save."""
    picture = yield Fill(request.grey, request.side)
    yield Save(picture, 0, 0, "png", 100, {})
    return {"grey": request.grey}


def fill(stage: Fill, desk: Desk) -> Work:
    """The handler of Fill."""
    yield PIECE
    return Picture(torch.full((stage.side, stage.side, 3), stage.grey, dtype=torch.uint8))


def register(tables: Tables) -> None:
    """All of it."""
    tables.samplers.register(SamplerRecord(id="leap", label="Leap", code=f"{__name__}:leap"))
    tables.guidances.register(
        GuidanceRecord(
            id="dim",
            label="Dim",
            help="Scales the clean latent.",
            code=f"{__name__}:dim",
            parameters=(Parameter("by", "float", 0.5, minimum=0, maximum=1, help="the factor"),),
        )
    )
    tables.stages.register(StageRecord(Fill, f"{__name__}:fill", "fill"))
    tables.operations.register(
        OperationSpec(
            id="image.swatch",
            request=SwatchRequest,
            resolved=ResolvedSwatch,
            resolve=f"{__name__}:resolve",
            recipe=f"{__name__}:recipe",
        )
    )

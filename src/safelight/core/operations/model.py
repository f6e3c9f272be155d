"""Operations on models: bringing one into memory by hand, and letting it go."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from safelight.core.files import FileRef

ModelName = Annotated[str, Field(min_length=1, max_length=4096)]
Role = Literal["denoise", "text", "vae"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]

COMPONENTS: dict[Role, str] = {"denoise": "network", "text": "text", "vae": "vae"}
"""The component of a checkpoint that plays each role."""


class ModelLoad(BaseModel):
    """Bring a model into memory, so that the next job need not wait for it."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="model.load")

    operation: Literal["model.load"] = "model.load"
    model: Annotated[
        ModelName, Field(description="a model's name, or the path of its file or folder inside a model folder")
    ]
    role: Annotated[
        Role | None, Field(description="the part of it that is wanted; all of it where this is not given")
    ] = None
    device: Annotated[
        str | None, Field(max_length=100, description="a worker's id or device that is to hold it; see /v1/system")
    ] = None
    dtype: Annotated[
        Precision, Field(description="the precision it is to be held in; a worker holds all it has in one, its own")
    ] = "auto"
    pinned: Annotated[
        bool,
        Field(
            description="keep it in memory until it is unloaded or its worker ends (a restart, a crash); "
            "without this an earlier pin is taken off"
        ),
    ] = False


class ModelUnload(BaseModel):
    """Let go of a model, or of every one that is idle. What jobs are using stays, and the result says so."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="model.unload")

    operation: Literal["model.unload"] = "model.unload"
    model: Annotated[
        ModelName | None,
        Field(description="as in `model.load`, pinned or not; where it is not given, all that is idle and not pinned"),
    ] = None
    device: Annotated[
        str | None,
        Field(
            max_length=100,
            description="a worker's id or device that is to let go of it; where it is not given, one that holds it",
        ),
    ] = None


class ResolvedModelLoad(BaseModel):
    """A complete `model.load`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: Literal["model.load"] = "model.load"
    model: FileRef
    family: str
    components: tuple[str, ...]
    dtype: Precision
    pinned: bool


class ResolvedModelUnload(BaseModel):
    """A complete `model.unload`. The file is no `model` of the job's: it needs no room for its weights, and goes to a
    worker that holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: Literal["model.unload"] = "model.unload"
    file: FileRef | None

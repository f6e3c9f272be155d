"""The fields that operations share: types, limits, and words for what is wrong."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MAX_PROMPT = 20_000
MAX_PIXELS = 16_000_000
MAX_SEED = 2**64 - 1
RANDOM_SEED_BELOW = 2**53
"""Random seeds stay below this: JavaScript's numbers are exact up to here."""

Scalar = bool | int | float | str


def _said(prompt: str) -> str:
    if not prompt.strip():
        raise ValueError("the prompt is empty; say what the picture should show")
    return prompt


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")
    return value


Number = BeforeValidator(_number)
"""JSON's true is no 1."""

Prompt = Annotated[str, Field(max_length=MAX_PROMPT), AfterValidator(_said)]
NegativePrompt = Annotated[str, Field(max_length=MAX_PROMPT)]
Steps = Annotated[int, Field(ge=1, le=150), Number]
GuidanceScale = Annotated[float, Field(ge=0, le=30, allow_inf_nan=False), Number]
Side = Annotated[int, Field(ge=64, le=4096), Number]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), Number]
Strength = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), Number]
LoraStrength = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False), Number]
BatchSize = Annotated[int, Field(ge=1, le=64), Number]
ClipSkip = Annotated[int, Field(ge=1, le=12), Number]
Picture = Annotated[str, Field(min_length=1, max_length=64 * 1024 * 1024)]
"""An artifact's id, an upload's id, or a picture as base64 (with or without a `data:` prefix)."""


class Part(BaseModel):
    """A group of fields inside an operation: frozen, nothing unknown allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LoraUse(Part):
    """A LoRA and how strongly it is applied to the network and to the text encoder."""

    name: Annotated[str, Field(min_length=1, max_length=300, description="a LoRA's name, as `loras list` shows it")]
    strength: Annotated[LoraStrength, Field(description="on the network; 0 leaves it out")] = 1.0
    text_strength: Annotated[
        LoraStrength | None, Field(description="on the text encoder; as `strength` where it is not given")
    ] = None


class GuidanceChoice(Part):
    """A guidance around the classifier-free one: its kind and its parameters."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: Annotated[str, Field(min_length=1, description="an id of `/v1/guidances`, such as `rescale`")]

    def options(self) -> dict[str, Any]:
        """The parameters given, without the kind."""
        return dict(self.model_extra or {})


class Output(Part):
    """How the finished picture is written."""

    format: Annotated[Literal["png", "webp", "jpeg", "avif"], Field(description="file format")] = "png"
    quality: Annotated[
        int, Field(ge=1, le=100, description="of the lossy formats; 100 is lossless in WebP"), Number
    ] = 92
    metadata: Annotated[bool, Field(description="write what made the picture into the file")] = True


class NoiseChoice(Part):
    """Where a picture's random numbers come from."""

    source: Annotated[
        Literal["a1111", "comfy"],
        Field(description="`a1111`: a stream per picture, as A1111 and Forge on the CPU; `comfy`: as ComfyUI"),
    ] = "a1111"

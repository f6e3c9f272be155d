"""Operations that make pictures: asked for (defaults open) and resolved (nothing open, nothing to look up)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from safelight.core.files import FileRef, UploadRef
from safelight.core.operations import fields as f


class ImageGenerate(BaseModel):
    """Text to image: draw what the prompt says."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="image.generate")

    operation: Literal["image.generate"] = "image.generate"
    prompt: Annotated[f.Prompt, Field(description="what the picture shows; A1111 weights, BREAK and long prompts")]
    negative_prompt: Annotated[f.NegativePrompt, Field(description="what it should not show")] = ""
    model: Annotated[
        str | None, Field(max_length=300, description="a model's name; the server's default if absent")
    ] = None
    steps: Annotated[f.Steps | None, Field(description="denoising steps; the model's own if absent")] = None
    guidance_scale: Annotated[
        f.GuidanceScale | None, Field(description="how strictly the prompt is followed; 1 switches guidance off")
    ] = None
    width: Annotated[f.Side | None, Field(description="pixels, a multiple of the family's grid")] = None
    height: Annotated[f.Side | None, Field(description="pixels, a multiple of the family's grid")] = None
    seed: Annotated[f.Seed | None, Field(description="random if absent; the one used is stored")] = None
    sampler: Annotated[str | None, Field(max_length=100, description="an id or alias of `/v1/samplers`")] = None
    schedule: Annotated[str | None, Field(max_length=100, description="an id or alias of `/v1/schedules`")] = None
    batch_size: Annotated[f.BatchSize, Field(description="pictures side by side, an artifact each")] = 1
    clip_skip: Annotated[f.ClipSkip, Field(description="1 = the text encoder's last layer, 2 = the one before")] = 1
    loras: Annotated[tuple[f.LoraUse, ...], Field(max_length=16, description="LoRAs on network and text encoder")] = ()
    sampler_options: Annotated[dict[str, f.Scalar], Field(description="parameters of the sampler")] = Field(
        default_factory=dict
    )
    schedule_options: Annotated[dict[str, f.Scalar], Field(description="parameters of the schedule")] = Field(
        default_factory=dict
    )
    guidance: Annotated[
        tuple[f.GuidanceChoice, ...], Field(max_length=8, description="guidances around the plain one, innermost first")
    ] = ()
    parser: Annotated[Literal["a1111", "plain"], Field(description="how weights in prompts are written")] = "a1111"
    noise: Annotated[f.NoiseChoice, Field(description="the source of random numbers")] = f.NoiseChoice()
    output: Annotated[f.Output, Field(description="the finished file")] = f.Output()
    deterministic: Annotated[
        bool, Field(description="byte-identical in any company and after any crash; never shares a pass")
    ] = False


class ImageTransform(ImageGenerate):
    """Image to image: redo a share of the schedule on a picture."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="image.transform")

    operation: Literal["image.transform"] = "image.transform"  # type: ignore[assignment]
    image: Annotated[
        f.Picture,
        Field(
            validation_alias=AliasChoices("image", "init_image", "input_image"),
            description="the picture: an artifact's id, an upload's id, or base64",
        ),
    ]
    strength: Annotated[f.Strength, Field(description="share of the schedule that is redone; 0 keeps the picture")] = (
        0.8
    )
    resize: Annotated[
        Literal["stretch", "crop", "pad"], Field(description="how the picture is fitted to width and height")
    ] = "crop"


class ImageInpaint(ImageTransform):
    """Repaint a part of a picture; outside the mask (beyond its blur) it stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="image.inpaint")

    operation: Literal["image.inpaint"] = "image.inpaint"  # type: ignore[assignment]
    mask: Annotated[
        f.Picture,
        Field(
            validation_alias=AliasChoices("mask", "mask_image"), description="white = repaint; like `image`, same shape"
        ),
    ]
    mask_blur: Annotated[
        int, Field(ge=0, le=64, description="pixels over which the repainted part fades in"), f.Number
    ] = 4


class ResolvedLora(f.Part):
    """A LoRA pinned at submission."""

    file: FileRef
    strength: float
    text_strength: float


class ResolvedGuidance(f.Part):
    """A guidance with every parameter filled in."""

    kind: str
    options: dict[str, f.Scalar]


class ResolvedGenerate(BaseModel):
    """A complete `image.generate`: what the job stores and the recipe reads. A rerun needs no table of defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: Literal["image.generate"] = "image.generate"
    prompt: str
    negative_prompt: str
    model: FileRef
    family: str
    factor: int
    steps: int
    guidance_scale: float
    width: int
    height: int
    seed: int
    sampler: str
    schedule: str
    batch_size: int
    clip_skip: int
    loras: tuple[ResolvedLora, ...]
    sampler_options: dict[str, f.Scalar]
    schedule_options: dict[str, f.Scalar]
    guidance: tuple[ResolvedGuidance, ...]
    parser: str
    noise: f.NoiseChoice
    output: f.Output
    deterministic: bool


class ResolvedTransform(ResolvedGenerate):
    """A complete `image.transform`."""

    operation: Literal["image.transform"] = "image.transform"  # type: ignore[assignment]
    image: UploadRef
    strength: float
    resize: Literal["stretch", "crop", "pad"]


class ResolvedInpaint(ResolvedTransform):
    """A complete `image.inpaint`."""

    operation: Literal["image.inpaint"] = "image.inpaint"  # type: ignore[assignment]
    mask: UploadRef
    mask_blur: int

"""The table of model families: everything about them that needs no torch.

A family is an architecture with its text encoders and autoencoder. Server, router and readiness read it here;
its code is named by `code` and imported by the worker alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safelight.core.registry import Registry


@dataclass(frozen=True)
class Fingerprint:
    """How the header of a weights file shows a family: tensors that must be there, with the size of one axis.

    `keys`: names that must all exist. `axis`: (name, axis, size) that must hold. A fingerprint is data, so that
    readiness and the catalog decide without reading weights.
    """

    keys: tuple[str, ...]
    axis: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class FolderFingerprint:
    """How a diffusers folder shows a family: its pipeline's class, and values in its components' config.json.

    `values`: (component, key, value) that must hold.
    """

    pipelines: tuple[str, ...]
    values: tuple[tuple[str, str, object], ...] = ()


@dataclass(frozen=True)
class FamilySpec:
    """One family.

    `latent_channels`, `factor` (pixels per latent pixel), `grid` (sides must be a multiple, in pixels); `native`
    (width, height in pixels); `prediction` unless the file says otherwise: eps, v, flow, x0; `path`: ve or flow;
    `bytes_per_pixel`, `pass_bytes_per_pixel`: rough working memory of a decode, and of a row of a pass, before they
    are measured.
    """

    id: str
    label: str
    latent_channels: int
    factor: int
    grid: int
    native: tuple[int, int]
    prediction: str
    path: Literal["ve", "flow"]
    steps: int
    guidance_scale: float
    sampler: str
    schedule: str
    operations: tuple[str, ...]
    fingerprints: tuple[Fingerprint, ...]
    code: str
    text_encoders: tuple[str, ...] = ("clip_l",)
    bytes_per_pixel: int = 2400
    pass_bytes_per_pixel: int = 700
    folders: tuple[FolderFingerprint, ...] = ()
    id_aliases: tuple[str, ...] = ()

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names of the family, for the registry."""
        return self.id_aliases


_PICTURES = ("image.generate", "image.transform", "image.inpaint")
_UNET = "model.diffusion_model.input_blocks.0.0.weight"
_CROSS = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_STABLE_DIFFUSION = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
)

BUILT_IN: tuple[FamilySpec, ...] = (
    FamilySpec(
        id="sd1",
        label="Stable Diffusion 1.x",
        latent_channels=4,
        factor=8,
        grid=8,
        native=(512, 512),
        prediction="eps",
        path="ve",
        steps=20,
        guidance_scale=7.5,
        sampler="euler",
        schedule="normal",
        operations=_PICTURES,
        fingerprints=(
            Fingerprint((_UNET, _CROSS, "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight")),
            Fingerprint((_UNET, _CROSS, "cond_stage_model.transformer.embeddings.token_embedding.weight")),
        ),
        code="safelight.engine.families.sd:StableDiffusion",
        folders=(FolderFingerprint(_STABLE_DIFFUSION, (("text_encoder", "hidden_act", "quick_gelu"),)),),
        id_aliases=("sd15", "stable-diffusion-v1"),
    ),
    FamilySpec(
        id="sd2",
        label="Stable Diffusion 2.x",
        latent_channels=4,
        factor=8,
        grid=8,
        native=(768, 768),
        prediction="v",
        path="ve",
        steps=20,
        guidance_scale=7.5,
        sampler="euler",
        schedule="normal",
        operations=_PICTURES,
        fingerprints=(Fingerprint((_UNET, _CROSS, "cond_stage_model.model.token_embedding.weight")),),
        code="safelight.engine.families.sd:StableDiffusion",
        text_encoders=("open_clip_h",),
        folders=(FolderFingerprint(_STABLE_DIFFUSION, (("text_encoder", "hidden_act", "gelu"),)),),
        id_aliases=("sd21", "stable-diffusion-v2"),
    ),
)


def family_table() -> Registry[FamilySpec]:
    """A fresh registry with the built-in families, open for extensions until it is closed."""
    table: Registry[FamilySpec] = Registry("family")
    for spec in BUILT_IN:
        table.register(spec)
    return table

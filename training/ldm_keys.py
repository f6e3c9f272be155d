"""A whole checkpoint between diffusers' state dicts and the original (LDM) single file, both ways.

The names are the engine's tables, which follow from a network's config alone. Both layouts keep the shapes of the
UNet's projections (1x1 convolutions or linear layers); the autoencoder's attention has 1x1 convolutions in LDM and
linear layers in diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from safelight.engine.weights.ldm_keys import UNET_PREFIX, VAE_PREFIX, all_renamed, inverse, unet_pairs, vae_pairs

TEXT_PREFIX = "cond_stage_model.transformer.text_model."


def _is_vae_attention(ldm_name: str) -> bool:
    parts = ldm_name.split(".")
    return "attn_1" in parts and parts[-1] == "weight" and parts[-2] != "norm"


def to_ldm(
    unet: Mapping[str, Tensor],
    vae: Mapping[str, Tensor],
    text: Mapping[str, Tensor],
    unet_config: Mapping[str, Any],
    vae_config: Mapping[str, Any],
) -> dict[str, Tensor]:
    """Diffusers' state dicts of the three components as one with the original single file's names.

    UnreadableFile for a tensor that the config does not describe: nothing is dropped in silence.
    """
    file = {
        UNET_PREFIX + new: unet[old]
        for old, new in all_renamed(unet, unet_pairs(unet_config), "The UNet's config").items()
    }
    for old, new in all_renamed(vae, vae_pairs(vae_config), "The autoencoder's config").items():
        file[VAE_PREFIX + new] = vae[old][:, :, None, None] if _is_vae_attention(new) else vae[old]
    file |= {TEXT_PREFIX + name.removeprefix("text_model."): tensor for name, tensor in text.items()}
    return file


def from_ldm(
    file: Mapping[str, Tensor], unet_config: Mapping[str, Any], vae_config: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """The exact inverse of `to_ldm`: state dicts of the UNet, the autoencoder and the text encoder."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in file.items() if name.startswith(prefix)}

    unet, vae = part(UNET_PREFIX), part(VAE_PREFIX)
    unet = {
        new: unet[old] for old, new in all_renamed(unet, inverse(unet_pairs(unet_config)), "The UNet's config").items()
    }
    flat = {name: t[:, :, 0, 0] if _is_vae_attention(name) else t for name, t in vae.items()}
    vae = {
        new: flat[old]
        for old, new in all_renamed(flat, inverse(vae_pairs(vae_config)), "The autoencoder's config").items()
    }
    return unet, vae, part(TEXT_PREFIX)

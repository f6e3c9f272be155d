"""Names of Stable Diffusion 1's tensors: diffusers' module paths and the original (LDM) ones, both ways.

Each table lists pairs of prefixes `(diffusers, ldm)`; a tensor is renamed by the pair its name begins with. The tables
follow from a network's config alone, so they hold for any network of that layout: any widths, any number of blocks,
blocks with or without attention, projections as 1x1 convolutions or as linear layers (both layouts keep the shape of
the UNet's projections; the autoencoder's attention has 1x1 convolutions in LDM and linear layers in diffusers).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

Pairs = list[tuple[str, str]]

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_PREFIX = "cond_stage_model.transformer.text_model."


def _unet_resnet(diffusers: str, ldm: str) -> Pairs:
    inner = (
        ("norm1", "in_layers.0"),
        ("conv1", "in_layers.2"),
        ("time_emb_proj", "emb_layers.1"),
        ("norm2", "out_layers.0"),
        ("conv2", "out_layers.3"),
        ("conv_shortcut", "skip_connection"),
    )
    return [(f"{diffusers}.{a}.", f"{ldm}.{b}.") for a, b in inner]


def unet_pairs(config: Mapping[str, Any]) -> Pairs:
    """The pairs of a `UNet2DConditionModel` of Stable Diffusion 1's layout with this config."""
    pairs: Pairs = [
        ("conv_in.", "input_blocks.0.0."),
        ("time_embedding.linear_1.", "time_embed.0."),
        ("time_embedding.linear_2.", "time_embed.2."),
        ("conv_norm_out.", "out.0."),
        ("conv_out.", "out.2."),
        *_unet_resnet("mid_block.resnets.0", "middle_block.0"),
        ("mid_block.attentions.0.", "middle_block.1."),
        *_unet_resnet("mid_block.resnets.1", "middle_block.2"),
    ]
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    place = 1
    for level, kind in enumerate(config["down_block_types"]):
        for layer in range(layers):
            pairs += _unet_resnet(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{place}.0")
            if kind.startswith("CrossAttn"):
                pairs.append((f"down_blocks.{level}.attentions.{layer}.", f"input_blocks.{place}.1."))
            place += 1
        if level < levels - 1:
            pairs.append((f"down_blocks.{level}.downsamplers.0.conv.", f"input_blocks.{place}.0.op."))
            place += 1
    place = 0
    for level, kind in enumerate(config["up_block_types"]):
        for layer in range(layers + 1):
            ldm, attention = f"output_blocks.{place}", kind.startswith("CrossAttn")
            pairs += _unet_resnet(f"up_blocks.{level}.resnets.{layer}", f"{ldm}.0")
            if attention:
                pairs.append((f"up_blocks.{level}.attentions.{layer}.", f"{ldm}.1."))
            if layer == layers and level < levels - 1:
                pairs.append((f"up_blocks.{level}.upsamplers.0.conv.", f"{ldm}.{2 if attention else 1}.conv."))
            place += 1
    return pairs


def _vae_resnet(diffusers: str, ldm: str) -> Pairs:
    same = [(f"{diffusers}.{name}.", f"{ldm}.{name}.") for name in ("norm1", "conv1", "norm2", "conv2")]
    return [*same, (f"{diffusers}.conv_shortcut.", f"{ldm}.nin_shortcut.")]


def vae_pairs(config: Mapping[str, Any]) -> Pairs:
    """The pairs of an `AutoencoderKL` with this config. LDM counts the decoder's levels from the picture's side."""
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    pairs: Pairs = [("quant_conv.", "quant_conv."), ("post_quant_conv.", "post_quant_conv.")]
    for half in ("encoder", "decoder"):
        pairs += [(f"{half}.conv_in.", f"{half}.conv_in."), (f"{half}.conv_out.", f"{half}.conv_out.")]
        pairs.append((f"{half}.conv_norm_out.", f"{half}.norm_out."))
        for block in (0, 1):
            pairs += _vae_resnet(f"{half}.mid_block.resnets.{block}", f"{half}.mid.block_{block + 1}")
        for a, b in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            pairs.append((f"{half}.mid_block.attentions.0.{a}.", f"{half}.mid.attn_1.{b}."))
    for level in range(levels):
        for layer in range(layers):
            pairs += _vae_resnet(f"encoder.down_blocks.{level}.resnets.{layer}", f"encoder.down.{level}.block.{layer}")
        pairs.append((f"encoder.down_blocks.{level}.downsamplers.0.conv.", f"encoder.down.{level}.downsample.conv."))
        ldm = f"decoder.up.{levels - 1 - level}"
        for layer in range(layers + 1):
            pairs += _vae_resnet(f"decoder.up_blocks.{level}.resnets.{layer}", f"{ldm}.block.{layer}")
        pairs.append((f"decoder.up_blocks.{level}.upsamplers.0.conv.", f"{ldm}.upsample.conv."))
    return pairs


def rename(names: Iterable[str], pairs: Pairs) -> dict[str, str]:
    """Every name with its new one. Raises `KeyError` for a name that no pair covers: nothing is dropped in silence."""
    renamed = {}
    for name in names:
        found = next(((old, new) for old, new in pairs if name.startswith(old)), None)
        if found is None:
            raise KeyError(f"{name!r} belongs to no part of this layout; the config does not describe these weights")
        renamed[name] = found[1] + name.removeprefix(found[0])
    return renamed


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
    """Diffusers' state dicts of the three components as one with the original single file's names."""
    file = {UNET_PREFIX + new: unet[old] for old, new in rename(unet, unet_pairs(unet_config)).items()}
    for old, new in rename(vae, vae_pairs(vae_config)).items():
        file[VAE_PREFIX + new] = vae[old][:, :, None, None] if _is_vae_attention(new) else vae[old]
    file |= {TEXT_PREFIX + name.removeprefix("text_model."): tensor for name, tensor in text.items()}
    return file


def from_ldm(
    file: Mapping[str, Tensor], unet_config: Mapping[str, Any], vae_config: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """The exact inverse of `to_ldm`: state dicts of the UNet, the autoencoder and the text encoder."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in file.items() if name.startswith(prefix)}

    def inverse(pairs: Pairs) -> Pairs:
        return [(new, old) for old, new in pairs]

    unet, vae = part(UNET_PREFIX), part(VAE_PREFIX)
    unet = {new: unet[old] for old, new in rename(unet, inverse(unet_pairs(unet_config))).items()}
    flat = {name: t[:, :, 0, 0] if _is_vae_attention(name) else t for name, t in vae.items()}
    vae = {new: flat[old] for old, new in rename(flat, inverse(vae_pairs(vae_config))).items()}
    return unet, vae, part(TEXT_PREFIX)

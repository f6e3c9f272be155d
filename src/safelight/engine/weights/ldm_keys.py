"""Names of the original (LDM) Stable Diffusion layout and diffusers' module paths, as pairs of prefixes.

Each table lists `(diffusers, ldm)`; a tensor is renamed by the pair its name begins with. The tables follow from a
network's config alone, so they hold for any network of that layout: any widths, any number of blocks, blocks with or
without attention. Rombach et al. (2022), github.com/CompVis/latent-diffusion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from safelight.errors import UnreadableFile

Pairs = list[tuple[str, str]]

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."


def unet_pairs(config: Mapping[str, Any]) -> Pairs:
    """The pairs of a `UNet2DConditionModel` with this config. LDM counts blocks through, diffusers by level."""
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
    return [*pairs, *_down(config), *_up(config)]


def _down(config: Mapping[str, Any]) -> Pairs:
    """A level's layers, then its downsampler, each an input block; block 0 is the first convolution."""
    pairs: Pairs = []
    levels, place = len(config["block_out_channels"]), 1
    for level, kind in enumerate(config["down_block_types"]):
        for layer in range(config["layers_per_block"]):
            pairs += _unet_resnet(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{place}.0")
            if kind.startswith("CrossAttn"):
                pairs.append((f"down_blocks.{level}.attentions.{layer}.", f"input_blocks.{place}.1."))
            place += 1
        if level < levels - 1:
            pairs.append((f"down_blocks.{level}.downsamplers.0.conv.", f"input_blocks.{place}.0.op."))
            place += 1
    return pairs


def _up(config: Mapping[str, Any]) -> Pairs:
    """A level's layers are output blocks; the upsampler is the last part of a level's last block."""
    pairs: Pairs = []
    levels, layers, place = len(config["block_out_channels"]), config["layers_per_block"] + 1, 0
    for level, kind in enumerate(config["up_block_types"]):
        attention = kind.startswith("CrossAttn")
        for layer in range(layers):
            block = f"output_blocks.{place}"
            pairs += _unet_resnet(f"up_blocks.{level}.resnets.{layer}", f"{block}.0")
            if attention:
                pairs.append((f"up_blocks.{level}.attentions.{layer}.", f"{block}.1."))
            if layer == layers - 1 and level < levels - 1:
                pairs.append((f"up_blocks.{level}.upsamplers.0.conv.", f"{block}.{2 if attention else 1}.conv."))
            place += 1
    return pairs


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


def _vae_resnet(diffusers: str, ldm: str) -> Pairs:
    same = [(f"{diffusers}.{name}.", f"{ldm}.{name}.") for name in ("norm1", "conv1", "norm2", "conv2")]
    return [*same, (f"{diffusers}.conv_shortcut.", f"{ldm}.nin_shortcut.")]


def inverse(pairs: Pairs) -> Pairs:
    """The pairs of the way back."""
    return [(new, old) for old, new in pairs]


def renamed(name: str, pairs: Pairs) -> str | None:
    """The name in the other layout, or None where no pair covers it."""
    found = next(((old, new) for old, new in pairs if name.startswith(old)), None)
    return None if found is None else found[1] + name.removeprefix(found[0])


def all_renamed(names: Iterable[str], pairs: Pairs, what: str) -> dict[str, str]:
    """Every name with its new one. UnreadableFile for names that no pair covers: nothing is dropped in silence."""
    table = {name: renamed(name, pairs) for name in names}
    foreign = [name for name, new in table.items() if new is None]
    if foreign:
        raise UnreadableFile(
            f"{what} has no place for {len(foreign)} of the file's tensors ({', '.join(foreign[:5])}).",
            "Its configuration is of another network; metadata safelight.components can name the right one.",
        )
    return {name: new for name, new in table.items() if new is not None}

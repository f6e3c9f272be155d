"""The names that Stable Diffusion's original code (LDM, SGM) has for the layers of diffusers' UNet.

Some LoRA files use them (`lora_unet_input_blocks_1_1_…`). They follow from the tree of blocks alone, so they hold for
every UNet of that layout: SD 1.x, 2.x, SDXL, and smaller ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Renamed = tuple[str, str]
"""The beginning of a layer's name, diffusers' and the original's."""

_ENDS: tuple[Renamed, ...] = (
    ("conv_in", "input_blocks.0.0"),
    ("conv_out", "out.2"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("mid_block.attentions.0", "middle_block.1"),
)
_RESNET: tuple[Renamed, ...] = (
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
)


def original_names(layers: Iterable[str]) -> dict[str, str]:
    """Original name -> diffusers' name of those `layers` of a UNet that have one; empty for any other network."""
    layers = list(layers)
    prefixes = [(f"{new}.", f"{old}.") for new, old in _prefixes(layers)]
    names = {}
    for layer in layers:
        for new, old in prefixes:
            if f"{layer}.".startswith(new):
                names[(old + f"{layer}.".removeprefix(new)).removesuffix(".")] = layer
    return names


def _prefixes(layers: list[str]) -> Iterator[Renamed]:
    down, up = _counts(layers, "down_blocks"), _counts(layers, "up_blocks")
    if not down or not up:
        return
    yield from _ENDS
    yield from _resnet("mid_block.resnets.0", "middle_block.0")
    yield from _resnet("mid_block.resnets.1", "middle_block.2")
    place = 1
    for level, resnets in enumerate(down):
        for number in range(resnets):
            yield from _resnet(f"down_blocks.{level}.resnets.{number}", f"input_blocks.{place}.0")
            yield f"down_blocks.{level}.attentions.{number}", f"input_blocks.{place}.1"
            place += 1
        yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{place}.0.op"
        place += 1
    place = 0
    for level, resnets in enumerate(up):
        attends = any(layer.startswith(f"up_blocks.{level}.attentions.") for layer in layers)
        for number in range(resnets):
            yield from _resnet(f"up_blocks.{level}.resnets.{number}", f"output_blocks.{place}.0")
            yield f"up_blocks.{level}.attentions.{number}", f"output_blocks.{place}.1"
            place += 1
        yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{place - 1}.{2 if attends else 1}.conv"


def _resnet(new: str, old: str) -> Iterator[Renamed]:
    for inner, original in _RESNET:
        yield f"{new}.{inner}", f"{old}.{original}"


def _counts(layers: list[str], side: str) -> list[int]:
    """Resnets of each block of one side of the UNet."""
    found = {
        tuple(layer.split(".")[1:4:2]) for layer in layers if layer.startswith(f"{side}.") and ".resnets." in layer
    }
    levels = {level for level, _ in found}
    return [sum(1 for each, _ in found if each == str(level)) for level in range(len(levels))]

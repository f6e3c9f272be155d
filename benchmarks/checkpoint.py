"""A checkpoint of Stable Diffusion 1.5's size in its published layout: 2 GB of fp16, with random weights.

Values are one random block, repeated: what a network costs does not depend on them. Each matrix is scaled by the
square root of its inputs, so that nothing overflows on the way.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import torch
from accelerate import init_empty_weights

from safelight.engine.weights import configs
from safelight.engine.weights.ldm_keys import UNET_PREFIX, VAE_PREFIX, all_renamed, unet_pairs, vae_pairs

_BLOCK = 1 << 20
_LORA_RANK = 16


def write_checkpoint(path: Path) -> Path:
    """Write the file; a few seconds."""
    shapes = {name: list(shape) for name, shape in _shapes().items()}
    _write(path, shapes)
    return path


def write_lora(path: Path, seed: int = 0) -> Path:
    """A LoRA of rank 16 for every attention layer of that network, with kohya's names: 6 MB of fp16."""
    shapes: dict[str, list[int]] = {}
    with init_empty_weights():
        unet = configs.unet(configs.shipped("sd1")["unet"])
    for name, parameter in unet.named_parameters():
        if ".attn" in name and name.endswith(".weight") and "norm" not in name:
            layer = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            shapes[f"{layer}.lora_down.weight"] = [_LORA_RANK, parameter.shape[1]]
            shapes[f"{layer}.lora_up.weight"] = [parameter.shape[0], _LORA_RANK]
    _write(path, shapes, seed)
    return path


def _shapes() -> dict[str, torch.Size]:
    """Every tensor's name and shape, as the published file has them."""
    known = configs.shipped("sd1")
    with init_empty_weights():
        unet, vae = configs.unet(known["unet"]), configs.autoencoder(known["vae"])
        text = configs.clip_text(known["text_encoder"])
    found: dict[str, torch.Size] = {}
    of_unet, of_vae = unet.state_dict(), vae.state_dict()
    for old, new in all_renamed(of_unet, unet_pairs(known["unet"]), "unet").items():
        found[UNET_PREFIX + new] = of_unet[old].shape
    for old, new in all_renamed(of_vae, vae_pairs(known["vae"]), "vae").items():
        matrix = "attn_1" in new and new.endswith(".weight") and "norm" not in new
        found[VAE_PREFIX + new] = torch.Size([*of_vae[old].shape, 1, 1]) if matrix else of_vae[old].shape
    prefix = "cond_stage_model.transformer.text_model."
    for name, tensor in text.state_dict().items():
        found[prefix + name.removeprefix("text_model.")] = tensor.shape
    return found


def _write(path: Path, shapes: dict[str, list[int]], seed: int = 0) -> None:
    """A safetensors file, written tensor by tensor; norms are ones, biases zeros, the rest the random block."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    words = json.dumps(header).encode()
    words += b" " * (-len(words) % 8)
    block = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(words)) + words)
        scaled: dict[int, bytes] = {}
        for name, shape in shapes.items():
            count = math.prod(shape)
            if len(shape) < 2:
                value = torch.ones(count) if name.endswith("weight") else torch.zeros(count)
                file.write(value.half().numpy().tobytes())
                continue
            inputs = math.prod(shape[1:])
            data = scaled.setdefault(inputs, (block / math.sqrt(inputs)).half().numpy().tobytes())
            for start in range(0, 2 * count, len(data)):
                file.write(data[: min(len(data), 2 * count - start)])

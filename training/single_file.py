"""The demo model in memory, as a diffusers folder and as the single file that ships; every form holds the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast

from training.ldm_keys import from_ldm, to_ldm

TITLE = "Safelight postcards"
DEFAULTS = {
    "width": 128,
    "height": 128,
    "steps": 20,
    "guidance_scale": 5.0,
    "guidance_rescale": 0.7,
    "sampler": "euler",
    "schedule": "sgm_uniform",
}
# What the library writes about itself into a config, and defaults that say nothing about the weights.
_FOREIGN = ("_name_or_path", "transformers_version", "dtype", "architectures")


@dataclass(frozen=True)
class Postcards:
    """The components in fp32 on the CPU; `tokenizer.model_max_length` is the length that prompts are padded to."""

    tokenizer: CLIPTokenizer
    text: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL


def load_folder(folder: Path) -> Postcards:
    """A diffusers folder with `tokenizer`, `text_encoder`, `unet` and `vae`."""
    return Postcards(
        CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        CLIPTextModel.from_pretrained(folder / "text_encoder").float().eval(),
        UNet2DConditionModel.from_pretrained(folder / "unet").float().eval(),
        AutoencoderKL.from_pretrained(folder / "vae").float().eval(),
    )


def save_folder(model: Postcards, folder: Path) -> None:
    """Write `model` as fp32 to a diffusers folder that `load_folder` reads."""
    model.tokenizer.save_pretrained(folder / "tokenizer")
    model.text.save_pretrained(folder / "text_encoder")
    model.unet.save_pretrained(folder / "unet")
    model.vae.save_pretrained(folder / "vae")


def tokenizer_text(tokenizer: PreTrainedTokenizerFast) -> str:
    """The tokenizer's `tokenizer.json` without padding or truncation, which are the reader's affair."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps(content | {"padding": None, "truncation": None}, ensure_ascii=False, separators=(",", ":"))


def _plain(config: Any) -> dict[str, Any]:
    return {key: value for key, value in dict(config).items() if key not in _FOREIGN}


def pack(model: Postcards, path: Path, preview: tuple[list[list[float]], list[float]]) -> None:
    """Write `model` in fp16 to one safetensors file of the original layout.

    `preview` holds a row of red, green, blue for each latent channel, and a bias: scaled latents to RGB in -1..1.
    What the tensors' names cannot tell goes to the file's metadata, where every value is text. The file appears
    whole or not at all.
    """
    unet_config, vae_config = _plain(model.unet.config), _plain(model.vae.config)
    tensors = to_ldm(model.unet.state_dict(), model.vae.state_dict(), model.text.state_dict(), unet_config, vae_config)
    words = model.tokenizer
    metadata = {
        "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.title": TITLE,
        "modelspec.license": "Apache-2.0",
        "safelight.prediction": "v",
        "safelight.zero_terminal_snr": "true",
        "safelight.scaling_factor": str(model.vae.config.scaling_factor),
        "safelight.tokenizer": tokenizer_text(words),
        "safelight.tokenizer_config": json.dumps(
            {
                "bos_token": words.bos_token,
                "eos_token": words.eos_token,
                "pad_token": words.pad_token,
                "model_max_length": words.model_max_length,
            }
        ),
        "safelight.components": json.dumps(
            {"unet": unet_config, "vae": vae_config, "text_encoder": _plain(model.text.config.to_dict())}
        ),
        "safelight.preview_factors": json.dumps(preview[0]),
        "safelight.preview_bias": json.dumps(preview[1]),
        "safelight.defaults": json.dumps(DEFAULTS),
    }
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(half, partial, metadata)
    partial.replace(path)


def unpack(path: Path) -> Postcards:
    """The model that `pack` wrote, in fp32."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    components = json.loads(metadata["safelight.components"])
    unet_state, vae_state, text_state = from_ldm(tensors, components["unet"], components["vae"])
    unet = UNet2DConditionModel.from_config(components["unet"])
    vae = AutoencoderKL.from_config(components["vae"])
    text = CLIPTextModel(CLIPTextConfig(**components["text_encoder"]))
    for network, state in ((unet, unet_state), (vae, vae_state), (text, text_state)):
        network.load_state_dict(state)
        network.eval()
    return Postcards(_tokenizer(metadata), text, unet, vae)


def _tokenizer(metadata: dict[str, str]) -> CLIPTokenizer:
    content = json.loads(metadata["safelight.tokenizer"])["model"]
    said = json.loads(metadata["safelight.tokenizer_config"])
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in content["merges"]]
    return CLIPTokenizer(vocab=content["vocab"], merges=merges, unk_token=said["eos_token"], **said)


def load(source: Path) -> Postcards:
    """A packed file or a diffusers folder."""
    return unpack(source) if source.is_file() else load_folder(source)

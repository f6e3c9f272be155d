"""Tiny Stable Diffusion 1 and 2: the real classes with random weights, written in the real file layouts.

model = tiny_stable_diffusion("sd1")
write_single_file(model, path)                       # original keys, fp32, everything embedded
write_single_file(model, path, dtype=torch.float16, tokenizer=False)
write_folder(model, path)                            # a diffusers folder
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from tests.builders.words import tiny_clip_tokenizer
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from safelight.engine.weights.ldm_keys import UNET_PREFIX, VAE_PREFIX, all_renamed, unet_pairs, vae_pairs

DOWN, UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
_FOREIGN = ("_name_or_path", "transformers_version", "dtype", "architectures")


@dataclass(frozen=True)
class TinyStableDiffusion:
    """The components in fp32. `prediction`: eps or v."""

    family: str
    prediction: str
    zero_terminal_snr: bool
    tokenizer: CLIPTokenizer
    text: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL

    def pipeline(self) -> StableDiffusionPipeline:
        """diffusers' pipeline of the very same modules: the reference of parity tests."""
        scheduler = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            prediction_type={"eps": "epsilon", "v": "v_prediction"}[self.prediction],
            rescale_betas_zero_snr=self.zero_terminal_snr,
            steps_offset=1,
        )
        made = StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        made.set_progress_bar_config(disable=True)
        return made


def tiny_stable_diffusion(
    family: str = "sd1",
    prediction: str = "",
    zero_terminal_snr: bool = False,
    in_channels: int = 4,
    seed: int = 0,
    *,
    real_words: bool = False,
) -> TinyStableDiffusion:
    """Two levels of 32 and 64 channels, two text layers of width 32, an autoencoder of factor 2; random weights.

    Norms and biases are random too, so that a mixed-up pair of tensors shows. `real_words`: the text encoder has
    CLIP's vocabulary, for files without a tokenizer.
    """
    torch.manual_seed(seed)
    second = family == "sd2"
    tokenizer = tiny_clip_tokenizer(pad="!" if second else "<|endoftext|>")
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=(DOWN, "DownBlock2D"),
        up_block_types=("UpBlock2D", UP),
        cross_attention_dim=32,
        norm_num_groups=8,
        attention_head_dim=(2, 4) if second else 8,
        use_linear_projection=second,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=0.18215,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408 if real_words else len(tokenizer),
            hidden_size=32,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            projection_dim=32,
            hidden_act="gelu" if second else "quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=1,
        )
    )
    for module in (unet, vae, text):
        _shake(module.eval())
    default = "v" if second else "eps"
    return TinyStableDiffusion(family, prediction or default, zero_terminal_snr, tokenizer, text, unet, vae)


@torch.no_grad()
def _shake(module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn_like(parameter) * 0.05)
        parameter.requires_grad_(False)


def single_file_tensors(model: TinyStableDiffusion) -> dict[str, Tensor]:
    """The original layout: every tensor under its original name."""
    unet, vae = model.unet.state_dict(), model.vae.state_dict()
    file = {
        UNET_PREFIX + new: unet[old] for old, new in all_renamed(unet, unet_pairs(model.unet.config), "unet").items()
    }
    for old, new in all_renamed(vae, vae_pairs(model.vae.config), "vae").items():
        attention = "attn_1" in new and new.endswith(".weight") and "norm" not in new
        file[VAE_PREFIX + new] = vae[old][:, :, None, None] if attention else vae[old]
    return file | (open_clip_tensors(model.text) if model.family == "sd2" else clip_tensors(model.text))


def clip_tensors(text: CLIPTextModel) -> dict[str, Tensor]:
    """A text encoder as Stable Diffusion 1 stores it, with the table of positions that old files carry."""
    prefix = "cond_stage_model.transformer.text_model."
    named = {prefix + name.removeprefix("text_model."): tensor for name, tensor in text.state_dict().items()}
    return named | {prefix + "embeddings.position_ids": torch.arange(77)[None]}


def open_clip_tensors(text: CLIPTextModel) -> dict[str, Tensor]:
    """A text encoder as Stable Diffusion 2 stores it: q, k and v in one, and one block more than is read."""
    state = {name.removeprefix("text_model."): tensor for name, tensor in text.state_dict().items()}
    layers = text.config.num_hidden_layers
    out = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "text_projection": torch.randn(32, 32),
        "logit_scale": torch.tensor(4.6),
    }
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    names["self_attn.out_proj"] = "attn.out_proj"
    for layer in range(layers + 1):
        old, new = f"encoder.layers.{min(layer, layers - 1)}.", f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            for theirs, ours in names.items():
                out[f"{new}{ours}.{kind}"] = state[f"{old}{theirs}.{kind}"] + (layer == layers)
            fused = torch.cat([state[f"{old}self_attn.{part}_proj.{kind}"] for part in "qkv"])
            out[f"{new}attn.in_proj_{kind}"] = fused + (layer == layers)
    return {f"cond_stage_model.model.{name}": tensor for name, tensor in out.items()}


def components(model: TinyStableDiffusion) -> dict[str, dict[str, object]]:
    """The components' configurations, as metadata `safelight.components` holds them."""

    def plain(config: object) -> dict[str, object]:
        return {key: value for key, value in dict(config).items() if key not in _FOREIGN}

    text = plain(model.text.config.to_dict())
    return {"unet": plain(model.unet.config), "vae": plain(model.vae.config), "text_encoder": text}


def single_file_metadata(model: TinyStableDiffusion, tokenizer: bool = True) -> dict[str, str]:
    """What the keys cannot tell of a model that nobody published."""
    said = {
        "modelspec.title": f"Tiny {model.family}",
        "modelspec.license": "Apache-2.0",
        "safelight.components": json.dumps(components(model)),
        "safelight.prediction": model.prediction,
        "safelight.zero_terminal_snr": str(model.zero_terminal_snr).lower(),
        "safelight.defaults": json.dumps({"width": 64, "height": 64, "steps": 4}),
    }
    if tokenizer:
        words = model.tokenizer
        said["safelight.tokenizer"] = words.backend_tokenizer.to_str()
        said["safelight.tokenizer_config"] = json.dumps(
            {"bos_token": words.bos_token, "eos_token": words.eos_token, "pad_token": words.pad_token}
        )
    return said


def write_single_file(
    model: TinyStableDiffusion,
    path: Path,
    dtype: torch.dtype = torch.float32,
    *,
    tokenizer: bool = True,
    metadata: dict[str, str] | None = None,
    more: dict[str, Tensor] | None = None,
) -> Path:
    """One safetensors file with the original keys. `metadata`: added to, or in place of, what the model says;
    `more`: further tensors."""
    tensors = {
        name: tensor.to(dtype if tensor.is_floating_point() else tensor.dtype).contiguous().clone()
        for name, tensor in (single_file_tensors(model) | (more or {})).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, single_file_metadata(model, tokenizer) | (metadata or {}))
    return path


def write_folder(model: TinyStableDiffusion, folder: Path, variant: str | None = None) -> Path:
    """A diffusers folder; returns its model_index.json."""
    model.pipeline().save_pretrained(folder, variant=variant)
    return folder / "model_index.json"

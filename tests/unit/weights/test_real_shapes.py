"""The published networks, by the shapes in their headers: nothing of their size is read or made."""

from __future__ import annotations

import pytest
import torch
from accelerate import init_empty_weights
from tests.builders.headers import header_of, write_sparse
from tests.builders.stable_diffusion import TinyStableDiffusion, single_file_tensors
from tests.builders.timing import processor_seconds
from tests.builders.words import tiny_clip_tokenizer

from safelight.catalog.fingerprint import examine
from safelight.catalog.headers import read_header
from safelight.engine.families.sd import StableDiffusion
from safelight.engine.weights import configs

PARAMETERS = {"sd1": (859_520_964, 123_060_480, 83_653_863), "sd2": (865_910_724, 340_387_840, 83_653_863)}
"""Of the UNet, the text encoder (23 of 24 blocks in Stable Diffusion 2) and the autoencoder, as published."""

SCHEDULE = ("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "log_one_minus_alphas_cumprod")


@pytest.mark.parametrize("family", PARAMETERS)
def test_a_header_of_real_shapes_is_identified_and_its_sizes_are_known(family, tmp_path):
    own = configs.shipped(family)
    with init_empty_weights():
        networks = configs.clip_text(own["text_encoder"]), configs.unet(own["unet"]), configs.autoencoder(own["vae"])
    with torch.device("meta"):
        tensors = single_file_tensors(TinyStableDiffusion(family, "", False, tiny_clip_tokenizer(), *networks))
    shapes = {name: tensor.shape for name, tensor in tensors.items()} | dict.fromkeys(SCHEDULE, (1000,))
    path = write_sparse(tmp_path / "model.safetensors", header_of(shapes))
    assert sum(name.startswith("model.diffusion_model.") for name in shapes) == 686
    assert sum(name.startswith("first_stage_model.") for name in shapes) == 248

    identity = examine(path)
    look = f"examine(Path({str(path)!r}))"
    assert processor_seconds(look, "from pathlib import Path; from safelight.catalog.fingerprint import examine") < 0.02
    assert (identity.family, identity.channels) == (family, 4)
    assert identity.context_width == {"sd1": 768, "sd2": 1024}[family]
    assert identity.text_layers == {"sd1": 12, "sd2": 23}[family] == own["text_encoder"]["num_hidden_layers"]
    assert identity.stored == {"F16": path.stat().st_size - read_header(path).data}

    model = StableDiffusion(str(path), torch.float32, torch.device("cpu"))
    assert tuple(model.size(part) // 4 for part in ("network", "text", "vae")) == PARAMETERS[family]
    half = StableDiffusion(str(path), torch.bfloat16, torch.device("cpu"))
    assert half.size("network") * 2 == model.size("network")
    assert {f"not used: {name}" for name in SCHEDULE} <= set(model.notes)
    rest = {"sd1": "position_ids", "sd2": "resblocks.23"}[family]
    assert any(rest in note for note in model.notes)

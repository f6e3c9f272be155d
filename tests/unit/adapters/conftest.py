"""A tiny UNet and CLIP of the real classes, and LoRA weights for every layer of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

RANK = 4
Weights = dict[str, tuple[Tensor, Tensor]]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def unet_of_session() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()


@pytest.fixture
def unet(unet_of_session: UNet2DConditionModel) -> UNet2DConditionModel:
    return deepcopy(unet_of_session)


@pytest.fixture
def clip() -> CLIPTextModel:
    torch.manual_seed(1)
    sizes = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = CLIPTextConfig(num_attention_heads=4, bos_token_id=98, eos_token_id=99, pad_token_id=99, **sizes)
    return CLIPTextModel(config).eval()


def pair_for(layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """down and up for a layer, as LoCon stores them."""
    down, up = (RANK, *layer.weight.shape[1:]), (layer.weight.shape[0], RANK, *[1] * (layer.weight.dim() - 2))
    return torch.randn(down, generator=generator) * 0.2, torch.randn(up, generator=generator) * 0.2


@pytest.fixture
def weights() -> Callable[..., Weights]:
    """Random pairs for the layers of a module whose path a predicate takes."""

    def make(module: nn.Module, takes: Callable[[str], bool] = lambda _: True, seed: int = 0) -> Weights:
        generator = torch.Generator().manual_seed(seed)
        return {
            path: pair_for(layer, generator)
            for path, layer in module.named_modules()
            if isinstance(layer, nn.Linear | nn.Conv2d) and takes(path)
        }

    return make


@pytest.fixture
def merged() -> Callable[..., nn.Module]:
    """The reference: a copy of a module with strength * up @ down added to its weights by hand."""

    def merge(module: nn.Module, pairs: Weights, strength: float) -> nn.Module:
        module = deepcopy(module)
        for path, (down, up) in pairs.items():
            weight = module.get_submodule(path).weight
            weight += strength * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
        return module

    return merge


@dataclass(frozen=True)
class Inputs:
    """What a pass of the UNet takes, row by row."""

    x: Tensor
    times: Tensor
    text: Tensor

    def run(self, unet: nn.Module, *rows: int) -> Tensor:
        """The result of these rows (all, if none are named) in one pass."""
        take = list(rows) or list(range(self.x.shape[0]))
        return unet(self.x[take], self.times[take], self.text[take]).sample


@pytest.fixture
def inputs() -> Inputs:
    generator = torch.Generator().manual_seed(7)
    x, text = torch.randn(4, 4, 16, 16, generator=generator), torch.randn(4, 12, 32, generator=generator)
    return Inputs(x, torch.tensor([900, 500, 100, 10]), text)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    def save(tensors: Mapping[str, Tensor], name: str = "lora", metadata: dict[str, str] | None = None) -> Path:
        path = tmp_path / f"{name}.safetensors"
        save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, path, metadata)
        return path

    return save

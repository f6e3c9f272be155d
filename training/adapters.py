"""LoRA layers: attached to a model's linear layers, trained, and written the way kohya's trainer names them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from training.single_file import Postcards

_UNET_PARTS = ("attn1.", "attn2.", "ff.net.")
_TEXT_PARTS = ("self_attn.", "mlp.")


class Pair(nn.Module):
    """The two small matrices of one layer: `x -> up(down(x)) * alpha / rank`. Hu et al. (2021), section 4.1."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        self.alpha = alpha
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """What the adapter adds to the layer's output."""
        return self.up(self.down(x)) * (self.alpha / self.down.out_features)


def kohya_layers(model: Postcards, text: bool = True) -> dict[str, nn.Linear]:
    """The layers an adapter may change, by the name that kohya's trainer gives them for Stable Diffusion 1."""

    def linear(network: nn.Module, prefix: str, parts: tuple[str, ...]) -> Iterator[tuple[str, nn.Linear]]:
        for path, module in network.named_modules():
            if isinstance(module, nn.Linear) and any(part in path for part in parts):
                yield prefix + path.removeprefix("text_model.").replace(".", "_"), module

    layers = dict(linear(model.unet, "lora_unet_", _UNET_PARTS))
    if text:
        layers |= linear(model.text, "lora_te_text_model_", _TEXT_PARTS)
    return layers


class Adapter(nn.Module):
    """Pairs for some layers of a model; it changes the model only while `attached`."""

    def __init__(self, layers: dict[str, nn.Linear], rank: int, alpha: float) -> None:
        super().__init__()
        self.layers = layers
        self.pairs = nn.ModuleDict({name: Pair(layer, rank, alpha) for name, layer in layers.items()})

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Within, every layer's output has its pair's added."""

        def added(pair: nn.Module) -> object:
            return lambda _layer, inputs, output: output + pair(inputs[0])

        hooks = [layer.register_forward_hook(added(self.pairs[name])) for name, layer in self.layers.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def write(self, path: Path, metadata: dict[str, str]) -> None:
        """As fp16 safetensors, whole or not at all."""
        tensors: dict[str, Tensor] = {}
        for name, pair in self.pairs.items():
            tensors[f"{name}.lora_down.weight"] = pair.down.weight.detach().half().cpu().contiguous()
            tensors[f"{name}.lora_up.weight"] = pair.up.weight.detach().half().cpu().contiguous()
            tensors[f"{name}.alpha"] = torch.tensor(pair.alpha, dtype=torch.float16)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, metadata)
        partial.replace(path)


def read(path: Path, model: Postcards) -> Adapter:
    """The adapter in a file that `Adapter.write` wrote, for `model`."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    names = {name.partition(".")[0] for name in tensors}
    layers = {name: layer for name, layer in kohya_layers(model).items() if name in names}
    if len(layers) != len(names):
        raise KeyError(f"{path} names layers that the model does not have: {sorted(names - layers.keys())[:3]}")
    first = next(iter(layers))
    adapter = Adapter(layers, tensors[f"{first}.lora_down.weight"].shape[0], float(tensors[f"{first}.alpha"]))
    for name, pair in adapter.pairs.items():
        pair.load_state_dict({f"{half}.weight": tensors[f"{name}.lora_{half}.weight"] for half in ("down", "up")})
    return adapter

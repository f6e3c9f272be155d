"""The names of tensors in LoRA files: which layer of which component, and which part of its low-rank pair.

Dialects: kohya (`lora_unet_down_blocks_0_..._to_q.lora_down.weight`), PEFT (`base_model.model.….lora_A.weight`),
diffusers (`unet.….lora_A.weight`, and its older `….to_q.lora.up.weight` and `….processor.to_q_lora.down.weight`).
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Role = Literal["down", "up", "middle", "alpha"]


class Key(NamedTuple):
    """Where a tensor belongs. `layer` as the file writes it, without the component's prefix: dotted or flattened."""

    component: str
    layer: str
    role: Role


NETWORK, TEXT = "network", "text"

_PREFIXES: tuple[tuple[str, str], ...] = (
    ("lora_unet_", NETWORK),
    ("lora_transformer_", NETWORK),
    ("lora_te1_", TEXT),
    ("lora_te2_", "text_2"),
    ("lora_te3_", "text_3"),
    ("lora_te_", TEXT),
    ("unet.", NETWORK),
    ("transformer.", NETWORK),
    ("model.diffusion_model.", NETWORK),
    ("diffusion_model.", NETWORK),
    ("text_encoder_2.", "text_2"),
    ("text_encoder_3.", "text_3"),
    ("text_encoder.", TEXT),
)
_BARE_TEXT = ("text_model.", "encoder.layers.")
"""How layers of a text encoder begin in files that name no component; anything else there is the network's."""

_PAIR = re.compile(
    r"""(?P<layer>.+?)\.(?:
        lora_(?P<kohya>down|up|mid)\.weight
      | lora_(?P<peft>[AB])(?:\.[^.]+)?\.weight
      | lora(?:_linear_layer)?\.(?P<diffusers>down|up)\.weight
      | (?P<alpha>alpha)
    )""",
    re.VERBOSE,
)
_PROCESSOR = re.compile(r"(?P<attention>.+?)(?:\.processor)?\.to_(?P<to>[qkv]|out)_lora\.(?P<role>down|up)\.weight")
_ROLES: dict[str, Role] = {"down": "down", "up": "up", "mid": "middle", "A": "down", "B": "up", "alpha": "alpha"}

DORA = "DoRA (decomposed into magnitude and direction)"
"""The kind whose low-rank pair means nothing without the rest."""

_OTHERS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(rf"(?P<layer>.+?)\.(?:{pattern})"), kind)
    for pattern, kind in (
        (r"hada_(?:w[12]_[ab]|t[12])", "LoHa (LyCORIS)"),
        (r"lokr_(?:w[12](?:_[ab])?|t2)", "LoKr (LyCORIS)"),
        (r"dora_scale|lora_magnitude_vector(?:\..+)?", DORA),
        (r"(?:oft_(?:blocks|diag)|oft_R(?:\..+)?|rescale)", "OFT"),
        (r"(?:a[12]|b[12])\.weight", "GLoRA (LyCORIS)"),
        (r"on_input", "IA3 (LyCORIS)"),
        (r"diff|diff_b|set_weight|w_norm|b_norm|reshape_weight", "a full difference of weights"),
        (r"(?:lora_up|lora_down|lora_[AB](?:\.[^.]+)?)\.bias|lora_[AB]\.[^.]+\.bias", "a bias of LoRA layers"),
        (r"lora_embedding_[AB](?:\..+)?", "LoRA of an embedding"),
    )
)


def read_key(name: str) -> Key | None:
    """The place of a tensor of a low-rank pair; None where the name is of no dialect of them."""
    processor = _PROCESSOR.fullmatch(name)
    if processor is not None:
        component, attention = place(processor["attention"])
        projection = {"out": "to_out.0"}.get(processor["to"], f"to_{processor['to']}")
        if component != NETWORK:
            projection = f"{processor['to']}_proj"
        return Key(component, f"{attention}.{projection}", _ROLES[processor["role"]])
    pair = _PAIR.fullmatch(name)
    if pair is None:
        return None
    role = next(filter(None, pair.group("kohya", "peft", "diffusers", "alpha")))
    return Key(*place(pair["layer"]), _ROLES[role])


def read_other(name: str) -> tuple[str, str, str] | None:
    """(component, layer, kind in words) of a tensor of an adapter that is no plain low-rank pair; None if unknown."""
    for pattern, kind in _OTHERS:
        found = pattern.fullmatch(name)
        if found is not None:
            return *place(found["layer"]), kind
    return None


def place(layer: str) -> tuple[str, str]:
    """The component of a layer and its name within: `lora_te_text_model_…` -> ("text", "text_model_…")."""
    layer = layer.removeprefix("base_model.model.")
    for prefix, component in _PREFIXES:
        if layer.startswith(prefix):
            return component, layer.removeprefix(prefix)
    return (TEXT if layer.startswith(_BARE_TEXT) else NETWORK), layer

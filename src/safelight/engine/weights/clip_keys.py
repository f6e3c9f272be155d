"""Where the parameters of transformers' `CLIPTextModel` lie, in each layout that text encoders are stored in.

transformers 5.6 dropped the level `text_model.` from the module's own names; files have it or not.
"""

from __future__ import annotations

import re

from safelight.engine.weights.stored import Piece

_OPEN_CLIP_LAYER = {
    "ln_1.weight": ("layer_norm1.weight",),
    "ln_1.bias": ("layer_norm1.bias",),
    "ln_2.weight": ("layer_norm2.weight",),
    "ln_2.bias": ("layer_norm2.bias",),
    "mlp.c_fc.weight": ("mlp.fc1.weight",),
    "mlp.c_fc.bias": ("mlp.fc1.bias",),
    "mlp.c_proj.weight": ("mlp.fc2.weight",),
    "mlp.c_proj.bias": ("mlp.fc2.bias",),
    "attn.out_proj.weight": ("self_attn.out_proj.weight",),
    "attn.out_proj.bias": ("self_attn.out_proj.bias",),
    "attn.in_proj_weight": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    "attn.in_proj_bias": ("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"),
}
_OPEN_CLIP = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
NOT_PARAMETERS = ("position_ids", "attn_mask", "logit_scale", "text_projection", "text_projection.weight")
"""Tensors beside a text encoder that its states do not need: fixed tables, and the way into the space of images."""


def transformers_pieces(names: list[str], prefix: str) -> dict[str, Piece]:
    """transformers' own names below `prefix`, with or without `text_model.`."""
    pieces = {}
    for name in names:
        own = name.removeprefix(prefix).removeprefix("text_model.")
        if own.removeprefix("embeddings.") not in NOT_PARAMETERS:
            pieces[own] = Piece(name)
    return pieces


def open_clip_pieces(names: list[str], prefix: str, layers: int) -> tuple[dict[str, Piece], list[str]]:
    """OpenCLIP's names below `prefix`: the first `layers` blocks, and the names left over.

    q, k and v lie in one tensor. Stable Diffusion 2 reads the states before the last block, so that block is left.
    """
    pieces: dict[str, Piece] = {}
    rest: list[str] = []
    for name in names:
        own = name.removeprefix(prefix)
        block = re.match(r"transformer\.resblocks\.(\d+)\.(.+)", own)
        if own in _OPEN_CLIP:
            pieces[_OPEN_CLIP[own]] = Piece(name)
        elif block and int(block[1]) < layers and block[2] in _OPEN_CLIP_LAYER:
            new = _OPEN_CLIP_LAYER[block[2]]
            for part, parameter in enumerate(new):
                pieces[f"encoder.layers.{block[1]}.{parameter}"] = Piece(name, part, len(new))
        else:
            rest.append(name)
    return pieces, rest

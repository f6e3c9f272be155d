"""The text side and the network before training: a tokenizer learnt from captions, random weights."""

from __future__ import annotations

import json
import random
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.captions import caption
from training.scenes import random_scene

START, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 77


def new_tokenizer(captions: int = 20_000, seed: int = 0) -> CLIPTokenizer:
    """A tokenizer of CLIP's layout, its byte pairs learnt from captions; it can spell any other word."""
    rng = random.Random(seed)
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    learner.normalizer = normalizers.Lowercase()
    words = Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    learner.pre_tokenizer = pre_tokenizers.Split(words, "removed", invert=True)
    alphabet = list("abcdefghijklmnopqrstuvwxyz0123456789.,!?'\"()-:;")
    trainer = trainers.BpeTrainer(
        vocab_size=900, end_of_word_suffix="</w>", initial_alphabet=alphabet, special_tokens=[START, END]
    )
    learner.train_from_iterator((caption(random_scene(rng), rng) for _ in range(captions)), trainer)
    learnt = json.loads(learner.to_str())["model"]
    vocabulary: dict[str, int] = learnt["vocab"]
    for letter in alphabet:
        for token in (letter, letter + "</w>"):
            vocabulary.setdefault(token, len(vocabulary))
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in learnt["merges"]]
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=END,
        model_max_length=TOKENS,
    )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Four layers of CLIP's text model, 160 wide."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=160,
            intermediate_size=640,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            hidden_act="quick_gelu",
            projection_dim=160,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_network(latent_channels: int) -> UNet2DConditionModel:
    """Stable Diffusion 1's layout with 11 million parameters, attention at every level."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=latent_channels,
        out_channels=latent_channels,
        layers_per_block=1,
        block_out_channels=(64, 128, 192),
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=160,
        attention_head_dim=4,  # the number of heads: the config's name for it is a known slip
        norm_num_groups=16,
        use_linear_projection=True,
    )


class PlainAttention:
    """Attention as two matrix products: on a CPU its backward pass takes a third of the fused kernel's time."""

    def __call__(
        self, attention: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: object
    ) -> Tensor:
        """[batch, tokens, width] attending to `encoder_hidden_states`, or to itself."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        heads = attention.heads

        def split(projected: Tensor) -> Tensor:
            return projected.unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1)

        query = split(attention.to_q(hidden_states)) * attention.scale
        key, value = split(attention.to_k(context)), split(attention.to_v(context))
        scores = torch.bmm(query, key.transpose(1, 2))
        with torch.autocast(scores.device.type, enabled=False):
            weights = scores.softmax(dim=-1)
        mixed = torch.bmm(weights, value).unflatten(0, (-1, heads)).transpose(1, 2).flatten(2)
        return attention.to_out[0](mixed)

"""CLIP as a text encoder."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from safelight.engine.weights.assembly import module_bytes
from safelight.engine.weights.room import Placing
from safelight.engine.weights.tokenizers import ClipTokenizer
from safelight.errors import InvalidRequest, InvalidValue


class ClipText:
    """A CLIP text encoder with its tokenizer.

    Stable Diffusion 2 reads the states before the last block of its encoder; that block is not loaded, so clip skip 1
    is its own layer.
    """

    def __init__(self, module: nn.Module, tokenizer: ClipTokenizer, placing: Placing) -> None:
        self.module = module
        self._config = cast(Any, module).config
        self._tokenizer = tokenizer
        self._placing = placing

    @property
    def chunk_length(self) -> int:
        """Tokens of a chunk: as long as the encoder has positions, or as its tokenizer says."""
        most = int(self._config.max_position_embeddings)
        return min(self._tokenizer.length or most, most)

    @property
    def begin(self) -> int:
        """Token id that opens a chunk."""
        return self._tokenizer.begin

    @property
    def end(self) -> int:
        """Token id that closes a chunk."""
        return self._tokenizer.end

    @property
    def padding(self) -> int:
        """Token id that fills a chunk up."""
        return self._tokenizer.padding

    @property
    def bytes(self) -> int:
        """Bytes of its weights."""
        return module_bytes(self.module)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a piece of text, without begin and end."""
        return self._tokenizer.tokenize(text)

    @torch.no_grad()
    def encode(self, chunks: Tensor, clip_skip: int) -> tuple[Tensor, Tensor | None]:
        """Chunks of token ids, int64 [n, chunk_length] -> states fp32 [n, chunk_length, width]; nothing pooled.

        InvalidRequest at `clip_skip` where the encoder has fewer layers.
        """
        layers = int(self._config.num_hidden_layers)
        if not 1 <= clip_skip <= layers:
            raise InvalidRequest(
                InvalidValue("clip_skip", f"there is no layer {clip_skip}", f"Allowed: 1 to {layers}.")
            )
        answer = self.module(input_ids=chunks.to(self._placing.device), output_hidden_states=clip_skip > 1)
        states = answer.last_hidden_state
        if clip_skip > 1:
            states = cast(Any, self.module).final_layer_norm(answer.hidden_states[-clip_skip])
        return states.float(), None

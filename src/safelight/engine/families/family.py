"""What the engine asks of a family's code. A family turns whatever its network predicts into the clean latent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from safelight.engine.conditioning import Conditioning
from safelight.engine.sampling.levels import NoiseLevels
from safelight.engine.sampling.paths import NoisePath
from safelight.engine.weights.reading import Reading


class Network(Protocol):
    """A loaded denoising network. Stateless between calls; `module` is what LoRA layers are hung into."""

    @property
    def module(self) -> nn.Module:
        """The torch module (diffusers' network)."""
        ...

    @property
    def levels(self) -> NoiseLevels:
        """The noise levels it was trained on."""
        ...

    @property
    def path(self) -> NoisePath:
        """How sigma mixes clean and noise."""
        ...

    @property
    def channels(self) -> int:
        """Channels of the latent it cleans."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes of its weights."""
        ...

    def denoise(self, x: Tensor, sigmas: Sequence[float], conditionings: Sequence[Conditioning]) -> Tensor:
        """The clean latents of a pass. x: fp32 [n, C, H, W]; one sigma and one conditioning (of equal length) a row.

        Returns fp32 [n, C, H, W].
        """
        ...


class TextEncoder(Protocol):
    """A loaded text encoder with its tokenizer."""

    @property
    def module(self) -> nn.Module:
        """The torch module (transformers' encoder)."""
        ...

    @property
    def chunk_length(self) -> int:
        """Tokens of a chunk, begin and end included: 77 for CLIP."""
        ...

    @property
    def begin(self) -> int:
        """Token id that opens a chunk."""
        ...

    @property
    def end(self) -> int:
        """Token id that closes a chunk."""
        ...

    @property
    def padding(self) -> int:
        """Token id that fills a chunk up."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes of its weights."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a piece of text, without begin and end."""
        ...

    def encode(self, chunks: Tensor, clip_skip: int) -> tuple[Tensor, Tensor | None]:
        """Chunks of token ids, int64 [n, chunk_length] -> states fp32 [n, chunk_length, width] of the layer that
        `clip_skip` names (1 = last), through the final norm; and pooled [n, width] or None.
        """
        ...


class Autoencoder(Protocol):
    """A loaded autoencoder. Pixels are fp32 in -1..1; latents are scaled as the network expects them."""

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        ...

    def widen(self) -> None:
        """Compute in fp32 from now on: in fewer bits it gave numbers that are not finite."""
        ...

    @property
    def factor(self) -> int:
        """Pixels per latent pixel, each way."""
        ...

    @property
    def channels(self) -> int:
        """Latent channels."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes of its weights."""
        ...

    @property
    def preview(self) -> tuple[Tensor, Tensor]:
        """Linear look at a latent: factors [C, 3] and bias [3] to RGB in -1..1."""
        ...

    def encode(self, pixels: Tensor) -> Tensor:
        """[n, 3, H, W] -> the mean latents [n, C, H/factor, W/factor], fp32."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """[n, C, h, w] -> [n, 3, h*factor, w*factor], fp32, not clamped."""
        ...


class Family(Protocol):
    """Opens the components of a checkpoint, one at a time, so that each can be resident alone.

    Made by `code(path, dtype, device, channels_last, reading)`: `path` a single file or a folder's model_index.json;
    `reading`: who is told of the bytes that are there, and where converted copies are kept.
    UnreadableFile where the file is not what it should be; the message says what its header holds.
    """

    def __init__(
        self,
        path: str,
        dtype: torch.dtype,
        device: torch.device,
        channels_last: bool = False,
        reading: Reading | None = None,
    ) -> None: ...

    def size(self, component: str) -> int:
        """Bytes that `component` (network, text, vae) will take, from the header alone."""
        ...

    def network(self) -> Network:
        """Load the denoising network."""
        ...

    def text(self) -> TextEncoder:
        """Load the text encoder and tokenizer."""
        ...

    def autoencoder(self) -> Autoencoder:
        """Load the autoencoder."""
        ...

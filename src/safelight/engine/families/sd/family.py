"""Opening a Stable Diffusion 1.x or 2.x checkpoint, one component at a time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from safelight.engine.families.sd.autoencoder import KLAutoencoder
from safelight.engine.families.sd.layouts import layout
from safelight.engine.families.sd.network import UNetNetwork
from safelight.engine.families.sd.text import ClipText
from safelight.engine.sampling.levels import scaled_linear_levels
from safelight.engine.weights import configs
from safelight.engine.weights.assembly import assemble, planned_bytes
from safelight.engine.weights.stored import Placing

_COMPONENTS: Mapping[str, str] = {"network": "unet", "text": "text_encoder", "vae": "vae"}


class StableDiffusion:
    """A checkpoint at `path`: a single file, or a diffusers folder's model_index.json. Nothing needs the internet.

    Nothing is loaded before it is asked for. UnreadableFile where the file is not what it should be.
    """

    def __init__(self, path: str, dtype: torch.dtype, device: torch.device, channels_last: bool = False) -> None:
        self._layout = layout(Path(path))
        self._placing = Placing(dtype, device, channels_last)

    @property
    def notes(self) -> tuple[str, ...]:
        """Who said what of this checkpoint, and what lies in it that is not used."""
        return (*self._layout.identity.declared.notes, *self._layout.notes)

    def size(self, component: str) -> int:
        """Bytes that `component` (network, text, vae) will take, from the header alone."""
        found = self._layout.component(_COMPONENTS[component])
        return planned_bytes(found.stored, found.plan, self._placing)

    def network(self) -> UNetNetwork:
        """Load the denoising network."""
        found, said, betas = self._layout.component("unet"), self._layout.identity.declared, self._layout.training
        levels = scaled_linear_levels(betas.start, betas.end, betas.count, said.zero_terminal_snr)
        module = assemble(partial(configs.unet, found.config), found.stored, found.plan, self._placing, "network")
        return UNetNetwork(module, levels, said.prediction, self._placing)

    def text(self) -> ClipText:
        """Load the text encoder and tokenizer."""
        found, tokenizer = self._layout.component("text_encoder"), self._layout.tokenizer()
        build = partial(configs.clip_text, found.config)
        module = assemble(build, found.stored, found.plan, self._placing, "text encoder")
        return ClipText(module, tokenizer, self._placing)

    def autoencoder(self) -> KLAutoencoder:
        """Load the autoencoder."""
        found = self._layout.component("vae")
        build = partial(configs.autoencoder, found.config)
        module = assemble(build, found.stored, found.plan, self._placing, "autoencoder")
        return KLAutoencoder(module, self._placing, self._layout.preview)

"""Opening a Stable Diffusion 1.x or 2.x checkpoint, one component at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

from safelight.engine.families.sd.autoencoder import KLAutoencoder
from safelight.engine.families.sd.layouts import layout
from safelight.engine.families.sd.network import UNetNetwork
from safelight.engine.families.sd.text import ClipText
from safelight.engine.sampling.levels import scaled_linear_levels
from safelight.engine.weights import configs
from safelight.engine.weights.assembly import assemble
from safelight.engine.weights.reading import Reading, planned_bytes
from safelight.engine.weights.room import Placing

_COMPONENTS: Mapping[str, str] = {"network": "unet", "text": "text_encoder", "vae": "vae"}


class StableDiffusion:
    """A checkpoint at `path`: a single file, or a diffusers folder's model_index.json. Nothing needs the internet.

    Nothing is loaded before it is asked for. UnreadableFile where the file is not what it should be.
    """

    def __init__(
        self,
        path: str,
        dtype: torch.dtype,
        device: torch.device,
        channels_last: bool = False,
        reading: Reading | None = None,
    ) -> None:
        self._layout = layout(Path(path))
        self._placing = Placing(dtype, device, channels_last)
        self._reading = reading or Reading()

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
        said, betas = self._layout.identity.declared, self._layout.training
        levels = scaled_linear_levels(betas.start, betas.end, betas.count, said.zero_terminal_snr)
        module = self._assembled("network", configs.unet)
        return UNetNetwork(module, levels, said.prediction, self._placing)

    def text(self) -> ClipText:
        """Load the text encoder and tokenizer."""
        tokenizer = self._layout.tokenizer()
        return ClipText(self._assembled("text", configs.clip_text), tokenizer, self._placing)

    def autoencoder(self) -> KLAutoencoder:
        """Load the autoencoder."""
        return KLAutoencoder(self._assembled("vae", configs.autoencoder), self._placing, self._layout.preview)

    def _assembled(self, component: str, build: Callable[[configs.Config], nn.Module]) -> nn.Module:
        found = self._layout.component(_COMPONENTS[component])
        what = {"text": "text encoder", "vae": "autoencoder"}.get(component, component)
        return assemble(partial(build, found.config), found.stored, found.plan, self._placing, what, self._reading)

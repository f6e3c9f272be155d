"""The alpha of files that say it beside their tensors: diffusers' metadata and PEFT's adapter_config.json."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safelight.engine.weights.lora_keys import NETWORK, TEXT

DIFFUSERS_METADATA = "lora_adapter_metadata"
"""Entry of a file's metadata: JSON of PEFT's config; its keys may begin with the component (`unet.lora_alpha`)."""

_PREFIXES = {NETWORK: ("unet.", "transformer."), TEXT: ("text_encoder.",), "text_2": ("text_encoder_2.",)}
_MAX_CONFIG = 1 << 20


@dataclass(frozen=True)
class Scaling:
    """PEFT's config as far as it scales: empty where the file has none."""

    config: Mapping[str, Any] = field(default_factory=dict)

    def alpha(self, component: str, layer: str, rank: int) -> float:
        """The alpha of a layer, such that its scale is alpha / rank; without a config that is the rank (scale 1).

        rsLoRA (Kalajdzievski 2023) scales by alpha / sqrt(rank) instead.
        """
        alpha = _number(self._said(component, "lora_alpha"))
        patterns = self._said(component, "alpha_pattern")
        for pattern, value in patterns.items() if isinstance(patterns, Mapping) else ():
            if _ends_in(layer, pattern):
                alpha = _number(value)
                break
        if alpha is None:
            return float(rank)
        return alpha * rank**0.5 if self._said(component, "use_rslora") is True else alpha

    def _said(self, component: str, name: str) -> Any:
        keys = [prefix + name for prefix in _PREFIXES.get(component, ())] + [name]
        return next((self.config[key] for key in keys if key in self.config), None)


def read_scaling(path: Path, metadata: Mapping[str, str]) -> Scaling:
    """What the metadata, or for PEFT's adapter_model.safetensors the config beside it, says; ValueError if broken."""
    text = metadata.get(DIFFUSERS_METADATA)
    beside = path.with_name("adapter_config.json")
    if text is None and path.name == "adapter_model.safetensors" and beside.is_file():
        with beside.open(encoding="utf-8") as file:
            text = file.read(_MAX_CONFIG)
    if text is None:
        return Scaling()
    config = json.loads(text)
    if not isinstance(config, dict):
        raise ValueError(f"it is a {type(config).__name__}, not an object")
    return Scaling(config)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _ends_in(layer: str, pattern: str) -> bool:
    """PEFT's match: a layer's name or the last parts of it. Taken as plain text, not as an expression."""
    return re.fullmatch(rf"(.*\.)?{re.escape(pattern)}", layer) is not None

"""Reading LoRA files. Hu et al. (2021), equation 3: W x + (alpha / rank) · up(down(x)).

Everything in a file is either used, or named in `unmatched` or `unsupported`: nothing is dropped in silence. Which
layer of a network a name means is found when the LoRA is hung into that network (`engine.adapters`), since the
components of a checkpoint are not loaded at one time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from safelight.engine.weights.lora_keys import DORA, Role, read_key, read_other
from safelight.engine.weights.lora_scaling import Scaling, read_scaling
from safelight.errors import UnreadableFile


@dataclass(frozen=True)
class LowRank:
    """A low-rank change of one layer, as stored.

    Linear: down [rank, in], up [out, rank]. Convolution (LoCon): down [rank, in, kh, kw], up [out, rank, 1, 1]. Tucker
    form (LyCORIS): down [rank, in, 1, 1], middle [rank, rank, kh, kw], up [out, rank, 1, 1].
    """

    down: Tensor
    up: Tensor
    alpha: float
    middle: Tensor | None = None

    @property
    def rank(self) -> int:
        """Channels between down and up."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """What strength 1 multiplies the change by."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class LoraFile:
    """A LoRA as read.

    `pairs`: by component (network, text, text_2, text_3), then by the layer's name as the file writes it. `unmatched`:
    tensors that belong to no adapter, one entry each, with the reason. `unsupported`: kinds of adapters not applied
    yet, a sentence each. Tensors are mapped from the file until they are copied.
    """

    name: str
    pairs: Mapping[str, Mapping[str, LowRank]]
    unmatched: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def foreign(self, components: Collection[str]) -> tuple[str, ...]:
        """A sentence for each component that the file changes and a checkpoint with these components lacks."""
        return tuple(
            f"{len(layers)} layers are for the component {component!r}, which this model does not have"
            for component, layers in self.pairs.items()
            if component not in components
        )


def read_lora(path: str | Path) -> LoraFile:
    """Read a safetensors file of low-rank pairs. UnreadableFile where it is broken or holds no adapter at all."""
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        hint = "Only safetensors files are read: the pickles of .pt and .ckpt can run code."
        raise UnreadableFile(f"{path.name} is not a readable safetensors file: {error}.", hint) from error
    try:
        scaling = read_scaling(path, metadata)
    except (ValueError, OSError) as error:
        hint = "It holds the LoRA's alpha; save the file again with the tool that made it."
        raise UnreadableFile(f"The adapter's config of {path.name} cannot be read: {error}.", hint) from error
    sorted_in = _Sorting(tensors, scaling)
    if not sorted_in.pairs and not sorted_in.others:
        seen = "; ".join(sorted(sorted_in.unmatched)[:3]) or "none"
        raise UnreadableFile(f"{path.name} holds no LoRA.", f"Its {len(tensors)} tensors: {seen}.")
    return LoraFile(path.stem, sorted_in.pairs, tuple(sorted_in.unmatched), tuple(sorted_in.unsupported), metadata)


class _Sorting:
    """The tensors of a file, sorted into pairs and what is left over."""

    def __init__(self, tensors: Mapping[str, Tensor], scaling: Scaling) -> None:
        self.pairs: dict[str, dict[str, LowRank]] = {}
        self.unmatched: list[str] = []
        self.others: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)
        layers: dict[tuple[str, str], dict[Role, str]] = defaultdict(dict)
        for name in tensors:
            key, other = read_key(name), read_other(name)
            if key is not None and key.role not in layers[key.component, key.layer]:
                layers[key.component, key.layer][key.role] = name
            elif key is not None:
                self.unmatched.append(f"{name}: a second {key.role} of the same layer")
            elif other is not None:
                component, layer, kind = other
                self.others[kind][component, layer] = None
            else:
                self.unmatched.append(f"{name}: not a name that LoRA files use")
        for (component, layer), names in layers.items():
            if (component, layer) in self.others.get(DORA, {}):
                continue
            pair = self._pair(component, layer, {role: tensors[each] for role, each in names.items()}, scaling)
            if isinstance(pair, LowRank):
                self.pairs.setdefault(component, {})[layer] = pair
            elif names.keys() != {"alpha"} or not self._is_other(component, layer):
                self.unmatched += [f"{name}: {pair}" for name in names.values()]

    @property
    def unsupported(self) -> list[str]:
        """A sentence for each kind of adapter that is not a plain pair."""
        sentences = []
        for kind, layers in self.others.items():
            first = next(iter(layers))[1]
            sentences.append(f"{len(layers)} layers have {kind}, not supported yet and left out (such as {first})")
        return sentences

    def _is_other(self, component: str, layer: str) -> bool:
        return any((component, layer) in layers for layers in self.others.values())

    @staticmethod
    def _pair(component: str, layer: str, parts: Mapping[Role, Tensor], scaling: Scaling) -> LowRank | str:
        """The pair, or what is wrong with it."""
        if "down" not in parts or "up" not in parts:
            return f"its layer lacks {' and '.join(role for role in ('down', 'up') if role not in parts)}"
        down, up, middle = parts["down"], parts["up"], parts.get("middle")
        ranks = [down.shape[0], up.shape[1] if up.dim() > 1 else 0, *(middle.shape[:2] if middle is not None else ())]
        if down.dim() not in (2, 4) or len(set(ranks)) != 1 or ranks[0] == 0:
            return f"down {list(down.shape)} and up {list(up.shape)} are no pair"
        if "alpha" not in parts:
            return LowRank(down, up, scaling.alpha(component, layer, ranks[0]), middle)
        alpha = float(parts["alpha"]) if parts["alpha"].numel() == 1 else math.nan
        return LowRank(down, up, alpha, middle) if math.isfinite(alpha) else "its alpha is not a finite number"

"""Where the components of a checkpoint lie: in one file with the original keys, or in a diffusers folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from safelight.catalog.fingerprint import Identity, identify, identify_folder
from safelight.catalog.folders import INDEX, Folder
from safelight.catalog.headers import Header, read_header
from safelight.engine.weights.clip_keys import open_clip_pieces, transformers_pieces
from safelight.engine.weights.configs import shipped
from safelight.engine.weights.ldm_keys import UNET_PREFIX, VAE_PREFIX, all_renamed, inverse, unet_pairs, vae_pairs
from safelight.engine.weights.reading import Plan
from safelight.engine.weights.stored import Piece, StoredTensors
from safelight.engine.weights.tokenizers import END, ClipTokenizer, clip_from_folder, clip_from_text, shipped_clip
from safelight.errors import UnreadableFile

_PADDING = {"sd1": END, "sd2": "!"}
_CLIP_PREFIX = "cond_stage_model.transformer."
_OPEN_CLIP_PREFIX = "cond_stage_model.model."
_BESIDE = {
    "model_ema.": "EMA weights",
    "first_stage_model.loss.": "the autoencoder's loss",
    "first_stage_model.model_ema.": "EMA weights",
}
_BLOCKS = {"block_out_channels": list, "layers_per_block": int}
_NEEDED: Mapping[str, Mapping[str, type]] = {
    "unet": _BLOCKS | {"down_block_types": list, "up_block_types": list},
    "vae": _BLOCKS,
    "text_encoder": {"num_hidden_layers": int},
}
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


@dataclass(frozen=True)
class Component:
    """One network of a checkpoint: its configuration, and where its parameters lie."""

    config: Mapping[str, Any]
    stored: StoredTensors
    plan: Plan


@dataclass(frozen=True)
class Training:
    """The betas a network was trained with: linear in their square root from `start` to `end` over `count`."""

    start: float = 0.00085
    end: float = 0.012
    count: int = 1000


class Layout(Protocol):
    """A checkpoint, whatever its files look like. Components: unet, vae, text_encoder."""

    @property
    def identity(self) -> Identity:
        """What its header tells."""
        ...

    @property
    def training(self) -> Training:
        """Its noise levels."""
        ...

    @property
    def preview(self) -> tuple[list[list[float]], list[float]] | None:
        """Its own linear look at a latent, if it brings one."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What lies in it that is not used."""
        ...

    def component(self, name: str) -> Component:
        """One network."""
        ...

    def tokenizer(self) -> ClipTokenizer:
        """Its tokenizer, or CLIP's own where it brings none."""
        ...


def layout(path: Path) -> Layout:
    """The layout of the checkpoint at `path`: a single file, a folder, or the folder's model_index.json."""
    if path.name == INDEX:
        path = path.parent
    return FolderLayout(Folder(path)) if path.is_dir() else SingleFile(read_header(path))


class SingleFile:
    """The original layout. Our metadata says what the keys cannot; without it, the published configurations hold."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.identity = identify(header)
        self.training = Training()
        self._stored = StoredTensors([header])

    @cached_property
    def preview(self) -> tuple[list[list[float]], list[float]] | None:
        """From metadata `safelight.preview_factors` and `safelight.preview_bias`."""
        factors = self._metadata("safelight.preview_factors")
        return None if factors is None else (factors, self._metadata("safelight.preview_bias") or [0.0, 0.0, 0.0])

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Counts of the tensors that no component reads, by what they are."""
        kinds: Counter[str] = Counter()
        for name in self.header.tensors:
            beside = next((what for begin, what in _BESIDE.items() if name.startswith(begin)), None)
            if beside or not name.startswith((UNET_PREFIX, VAE_PREFIX, "cond_stage_model.")):
                kinds[beside or name.split(".")[0]] += 1
        kinds.update(f"{name} of the text encoder" for name in self._text_pieces()[1])
        return tuple(
            f"not used: {what}" + (f" ({count} tensors)" if count > 1 else "") for what, count in kinds.items()
        )

    def component(self, name: str) -> Component:
        """One network, its keys renamed; UnreadableFile for a key that has no place in it."""
        config = self._config(name)
        if name == "text_encoder":
            return Component(config, self._stored, self._text_pieces()[0])
        prefix, pairs = (UNET_PREFIX, unet_pairs(config)) if name == "unet" else (VAE_PREFIX, vae_pairs(config))
        own = [key.removeprefix(prefix) for key in self._below(prefix)]
        table = all_renamed(own, inverse(pairs), f"The {name} of {self.header.path}")
        return Component(config, self._stored, {new: Piece(prefix + old) for old, new in table.items()})

    def tokenizer(self) -> ClipTokenizer:
        """From metadata `safelight.tokenizer`, else CLIP's own."""
        content = self.header.metadata.get("safelight.tokenizer")
        if content is None:
            return shipped_clip(_PADDING[self.identity.family])
        config = self._metadata("safelight.tokenizer_config") or {}
        return clip_from_text(content, config, f"{self.header.path} (safelight.tokenizer)")

    def _config(self, name: str) -> dict[str, Any]:
        said = self._metadata("safelight.components") or {}
        config = (said.get(name) if isinstance(said, dict) else said) or shipped(self.identity.family)[name]
        wrong = [
            key
            for key, kind in _NEEDED[name].items()
            if not isinstance(config, dict) or not isinstance(config.get(key), kind)
        ]
        if wrong:
            raise UnreadableFile(
                f"{self.header.path}: its metadata safelight.components says no {', '.join(wrong)} of the {name}.",
                "Save the model again with the whole configuration.",
            )
        scale = self._metadata("safelight.scaling_factor")
        return config | {"scaling_factor": float(scale)} if name == "vae" and scale is not None else config

    def _text_pieces(self) -> tuple[Plan, list[str]]:
        """The text encoder's plan, and the names beside it that its states do not need."""
        names = self._below(_OPEN_CLIP_PREFIX)
        if names:
            return open_clip_pieces(names, _OPEN_CLIP_PREFIX, self._config("text_encoder")["num_hidden_layers"])
        names = self._below(_CLIP_PREFIX)
        pieces = transformers_pieces(names, _CLIP_PREFIX)
        used = {piece.key for piece in pieces.values()}
        return pieces, [name for name in names if name not in used]

    def _below(self, prefix: str) -> list[str]:
        return [name for name in self.header.tensors if name.startswith(prefix) and not name.startswith(tuple(_BESIDE))]

    def _metadata(self, key: str) -> Any:
        text = self.header.metadata.get(key)
        try:
            return None if text is None else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UnreadableFile(f"{self.header.path}: its metadata {key} is not JSON ({error}).") from error


class FolderLayout:
    """A diffusers folder: every component brings its configuration."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.identity = identify_folder(folder)
        self.preview = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Components of the folder that are not used."""
        used = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
        more = [name for name, kind in self.folder.index.items() if isinstance(kind, list) and kind[0] is not None]
        return tuple(f"not used: {name}" for name in more if name not in used)

    @cached_property
    def training(self) -> Training:
        """From scheduler_config.json."""
        config = self.folder.config("scheduler")
        if config.get("beta_schedule", "scaled_linear") != "scaled_linear" or config.get("trained_betas") is not None:
            raise UnreadableFile(
                f"{self.folder.path} was trained on the betas {config.get('beta_schedule')!r}.",
                "Allowed: scaled_linear, those of every published Stable Diffusion.",
            )
        usual = Training()
        return Training(
            float(config.get("beta_start", usual.start)),
            float(config.get("beta_end", usual.end)),
            int(config.get("num_train_timesteps", usual.count)),
        )

    def component(self, name: str) -> Component:
        """One network; the names of older diffusers and transformers are understood."""
        stored = StoredTensors(self.folder.headers(name))
        if name == "text_encoder":
            plan: Plan = transformers_pieces(list(stored), "")
        elif name == "vae":
            plan = {_newer(key): Piece(key) for key in stored}
        else:
            plan = {key: Piece(key) for key in stored}
        return Component(self.folder.config(name), stored, plan)

    def tokenizer(self) -> ClipTokenizer:
        """From the folder `tokenizer`, else CLIP's own."""
        if (self.folder.path / "tokenizer").is_dir():
            return clip_from_folder(self.folder.path / "tokenizer")
        return shipped_clip(_PADDING[self.identity.family])


def _newer(name: str) -> str:
    """The autoencoder's attention was named otherwise before diffusers 0.15, and published files still are."""
    for old, new in _OLD_ATTENTION.items():
        name = name.replace(old, new) if ".attentions." in name else name
    return name

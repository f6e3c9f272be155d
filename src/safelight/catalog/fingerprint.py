"""Which family a checkpoint belongs to, from its header alone; its name says nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.catalog.declarations import Declared, as_json, declared, declared_folder
from safelight.catalog.folders import INDEX, Folder
from safelight.catalog.headers import Header, read_header
from safelight.core.families import BUILT_IN, FamilySpec, Fingerprint
from safelight.errors import UnreadableFile

UNET_IN = "model.diffusion_model.input_blocks.0.0.weight"
UNET_OUT = "model.diffusion_model.out.2.weight"
UNET_CROSS = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"

_ADAPTER_ENDINGS = (
    ".lora_down.weight",
    ".lora_up.weight",
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_A.default.weight",
    ".lora_B.default.weight",
    ".lora.down.weight",
    ".lora.up.weight",
    ".hada_w1_a",
    ".lokr_w1",
    ".lokr_w1_a",
    ".lokr_w2",
    ".dora_scale",
)
_ELSEWHERE: tuple[tuple[str, str], ...] = (
    ("conditioner.embedders.", "Stable Diffusion XL"),
    ("model.diffusion_model.joint_blocks.", "Stable Diffusion 3"),
    ("joint_blocks.", "Stable Diffusion 3, the network alone"),
    ("model.diffusion_model.double_blocks.", "Flux or its kin"),
    ("double_blocks.", "Flux or its kin, the network alone"),
    ("control_model.", "a ControlNet"),
    ("controlnet_", "a ControlNet in diffusers' layout"),
    ("emb_params", "a textual inversion"),
    ("string_to_param", "a textual inversion"),
    ("input_blocks.", "a UNet alone, without text encoder and autoencoder"),
    ("model.diffusion_model.", "a network of an unknown layout"),
    ("down_blocks.", "a UNet alone, in diffusers' layout"),
    ("text_model.", "a CLIP text encoder alone"),
    ("decoder.", "an autoencoder alone"),
)
_TEXT_LAYER = re.compile(
    r"cond_stage_model\.(transformer\.(text_model\.)?encoder\.layers\.(?P<layer>\d+)"
    r"|model\.transformer\.resblocks\.(?P<block>\d+))\."
)


@dataclass(frozen=True)
class Identity:
    """What a checkpoint is.

    `channels`: of the latent its network cleans; `context_width`: of the text states it reads; `stored`: bytes of
    each stored kind; `declared`: what its names and shapes cannot tell; `text_layers`: those of its text encoder that
    are used, 0 where nothing tells.
    """

    family: str
    channels: int
    context_width: int
    stored: Mapping[str, int]
    declared: Declared
    text_layers: int = 0


def is_adapter(header: Header) -> bool:
    """Whether a file holds a LoRA or one of its kin, by the endings of its tensors' names."""
    return any(name.endswith(_ADAPTER_ENDINGS) for name in header.tensors)


def examine(path: Path, families: Iterable[FamilySpec] = BUILT_IN) -> Identity:
    """What the checkpoint at `path` is: a single file, a diffusers folder, or its model_index.json.

    UnreadableFile where it is broken, or of no known family: the message says what it holds.
    """
    if path.name == INDEX:
        path = path.parent
    return identify_folder(Folder(path), families) if path.is_dir() else identify(read_header(path), families)


def identify(header: Header, families: Iterable[FamilySpec] = BUILT_IN) -> Identity:
    """What a single file is, from its header. UnreadableFile says what was seen."""
    known = tuple(families)
    spec = next((spec for spec in known if any(_matches(header, print) for print in spec.fingerprints)), None)
    if spec is None:
        raise UnreadableFile(
            f"{header.path} is of no family known here: it looks like {_seen(header)}.",
            f"Known: {', '.join(spec.label for spec in known)}.",
        )
    if not any(name.startswith("first_stage_model.") for name in header.tensors):
        raise UnreadableFile(
            f"{header.path} is of {spec.label}, but holds no autoencoder (first_stage_model.*).",
            "Take the version of the file that contains its VAE.",
        )
    given, made = _side(header, UNET_IN, 1), _side(header, UNET_OUT, 0)
    _plain(header.path, spec, given, made)
    said, layers = declared(header, spec), _text_layers(header)
    return Identity(spec.id, made, _side(header, UNET_CROSS, 1), header.bytes_by_dtype(), said, layers)


def identify_folder(folder: Folder, families: Iterable[FamilySpec] = BUILT_IN) -> Identity:
    """What a diffusers folder is, from its configurations. UnreadableFile says what was seen."""
    known = tuple(families)
    spec = next((spec for spec in known if _matches_folder(folder, spec)), None)
    if spec is None:
        raise UnreadableFile(
            f"{folder.path} is of no family known here: a folder of {folder.pipeline or 'an unnamed pipeline'} with "
            f"{', '.join(name for name in folder.index if not name.startswith('_')) or 'nothing'}.",
            f"Known: {', '.join(spec.label for spec in known)}.",
        )
    network = folder.config("unet")
    given, made = int(network.get("in_channels", 4)), int(network.get("out_channels", 4))
    _plain(folder.path, spec, given, made)
    stored: Counter[str] = Counter()
    for component in ("unet", "vae", "text_encoder"):
        for header in folder.headers(component):
            stored.update(header.bytes_by_dtype())
    said = declared_folder(folder.path, folder.config("scheduler"), spec)
    layers = folder.config("text_encoder").get("num_hidden_layers", 0)
    width = int(network.get("cross_attention_dim", 0))
    return Identity(spec.id, made, width, dict(stored), said, layers if isinstance(layers, int) else 0)


def _matches(header: Header, print: Fingerprint) -> bool:
    tensors = header.tensors
    return all(key in tensors for key in print.keys) and all(
        key in tensors and len(tensors[key].shape) > axis and tensors[key].shape[axis] == size
        for key, axis, size in print.axis
    )


def _matches_folder(folder: Folder, spec: FamilySpec) -> bool:
    def holds(component: str, key: str, value: Any) -> bool:
        return bool(folder.config(component).get(key) == value)

    return any(
        folder.pipeline in print.pipelines and all(holds(*wanted) for wanted in print.values) for print in spec.folders
    )


def _text_layers(header: Header) -> int:
    """As its own metadata says, else as many as its tensors name; of OpenCLIP's the last is not used (Stable Diffusion
    2 reads the states before it)."""
    said: Any = as_json(header, "safelight.components")
    text = said.get("text_encoder")
    if isinstance(text, dict) and isinstance(text.get("num_hidden_layers"), int):
        return int(text["num_hidden_layers"])
    named = [found for found in map(_TEXT_LAYER.match, header.tensors) if found]
    layers = {found["layer"] for found in named if found["layer"]}
    return max((int(layer) + 1 for layer in layers), default=0) or max(
        (int(each["block"]) for each in named), default=0
    )


def _side(header: Header, name: str, axis: int) -> int:
    tensor = header.tensors.get(name)
    if tensor is None or len(tensor.shape) <= axis:
        shape = "is missing" if tensor is None else f"has the shape {list(tensor.shape)}"
        raise UnreadableFile(f"{header.path} is damaged: {name} {shape}.", "Download it again.")
    return tensor.shape[axis]


def _plain(path: Path, spec: FamilySpec, given: int, made: int) -> None:
    """A network that reads more than the latent it cleans is a variant, and said to be one."""
    if given == made:
        return
    kinds = {2 * made + 1: "an inpainting model", 2 * made: "an instruction-editing model", made + 1: "a depth model"}
    raise UnreadableFile(
        f"{path} is {kinds.get(given, 'a variant')} of {spec.label}: its network reads {given} channels and gives "
        f"{made}.",
        "Only networks that read the latent alone run here; the plain model of the family can inpaint as well.",
    )


def _seen(header: Header) -> str:
    groups = Counter(".".join(name.split(".")[:2]) for name in header.tensors)
    listed = ", ".join(f"{group}.* ({count})" for group, count in groups.most_common(4))
    label = next((what for begin, what in _ELSEWHERE if any(name.startswith(begin) for name in header.tensors)), "")
    return f"{label + '; ' if label else ''}{len(header.tensors)} tensors: {listed or 'none'}"

"""The folders of other programs: which of them hold checkpoints, and which LoRAs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Tree:
    """A folder that was recognised. `kind`: the program in words; `models`, `loras`: its folders that exist."""

    kind: str
    models: tuple[Path, ...]
    loras: tuple[Path, ...]


@dataclass(frozen=True)
class _Layout:
    """How a program lays out its `models` folder. `marks`: one of these is there."""

    kind: str
    marks: tuple[str, ...]
    models: tuple[str, ...]
    loras: tuple[str, ...]


_LAYOUTS: tuple[_Layout, ...] = (
    _Layout("ComfyUI", ("checkpoints",), ("checkpoints", "diffusers"), ("loras",)),
    _Layout("A1111 or Forge", ("Stable-diffusion",), ("Stable-diffusion",), ("Lora", "LyCORIS")),
    _Layout("InvokeAI 3", ("sd-1", "sd-2", "sdxl"), ("sd-1/main", "sd-2/main"), ("sd-1/lora", "sd-2/lora")),
)


def recognise(folder: Path) -> Tree:
    """What a folder is: another program's root, its `models` folder, or just a folder with models."""
    for models in (folder / "models", folder):
        for layout in _LAYOUTS:
            if any((models / mark).is_dir() for mark in layout.marks):
                return Tree(layout.kind, _there(models, layout.models), _there(models, layout.loras))
    # InvokeAI since 4 keeps each model in a folder named by a key, so only looking inside tells them apart.
    invoke = (folder / "invokeai.yaml").is_file() or (folder / "databases" / "invokeai.db").is_file()
    if invoke and (folder / "models").is_dir():
        return Tree("InvokeAI", (folder / "models",), ())
    return Tree("a folder", (folder,), ())


def _there(models: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(models / name for name in names if (models / name).is_dir())

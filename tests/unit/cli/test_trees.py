"""The folders of other programs, made as those programs make them."""

from __future__ import annotations

import pytest

from safelight.cli.trees import recognise

TREES = {
    "ComfyUI": (
        ["main.py", "models/checkpoints/", "models/loras/", "models/vae/", "models/clip/"],
        "models", {"checkpoints"}, {"loras"},
    ),
    "A1111 or Forge": (
        ["webui.py", "models/Stable-diffusion/", "models/Lora/", "models/VAE/", "embeddings/"],
        "models", {"Stable-diffusion"}, {"Lora"},
    ),
    "InvokeAI 3": (
        ["invokeai.yaml", "models/sd-1/main/", "models/sd-1/lora/", "models/sdxl/main/", "models/core/"],
        "models", {"sd-1/main"}, {"sd-1/lora"},
    ),
    "InvokeAI": (["invokeai.yaml", "models/0f6a/", "databases/"], "", {"models"}, set()),
}  # fmt: skip


def make(root, names):
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


@pytest.mark.parametrize("kind", TREES)
def test_a_tree_is_recognised_by_its_root(kind, tmp_path):
    names, base, models, loras = TREES[kind]
    make(tmp_path, names)
    tree = recognise(tmp_path)
    assert tree.kind == kind
    assert {each.relative_to(tmp_path / base).as_posix() for each in tree.models} == models
    assert {each.relative_to(tmp_path / base).as_posix() for each in tree.loras} == loras


@pytest.mark.parametrize("kind", ["ComfyUI", "A1111 or Forge", "InvokeAI 3"])
def test_a_tree_is_recognised_by_its_models_folder(kind, tmp_path):
    make(tmp_path, TREES[kind][0])
    assert recognise(tmp_path / "models") == recognise(tmp_path)


def test_any_other_folder_is_taken_as_it_is(tmp_path):
    make(tmp_path, ["a.safetensors", "models/"])
    tree = recognise(tmp_path)
    assert (tree.kind, tree.models, tree.loras) == ("a folder", (tmp_path,), ())

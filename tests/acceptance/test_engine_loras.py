"""LoRAs through the whole engine: they change pictures, share passes, and leave no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.builders.stable_diffusion import tiny_stable_diffusion, write_single_file

from safelight.engine.checkpoint import read
from safelight.engine.results import Latent

from .studio import Studio

SMALL: dict[str, Any] = {"model": "tiny", "width": 64, "height": 64, "steps": 3, "guidance_scale": 2}


def write_lora(path: Path, seed: int, components: tuple[str, ...] = ("unet", "te")) -> None:
    """A kohya file of rank 2 on the attention of a tiny model's network and text encoder."""
    model = tiny_stable_diffusion()
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for component, module in (("unet", model.unet), ("te", model.text)):
        for name, layer in module.named_modules():
            chosen = isinstance(layer, torch.nn.Linear) and ("attn" in name) and component in components
            if not chosen:
                continue
            inner = "text_model." if component == "te" and not name.startswith("text_model") else ""
            stem = f"lora_{component}_{inner}{name}".replace(".", "_")
            tensors[f"{stem}.lora_down.weight"] = torch.randn(2, layer.in_features, generator=generator) * 0.2
            tensors[f"{stem}.lora_up.weight"] = torch.randn(layer.out_features, 2, generator=generator) * 0.2
            tensors[f"{stem}.alpha"] = torch.tensor(2.0)
    save_file(tensors, path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    write_single_file(tiny_stable_diffusion(), folder / "tiny.safetensors")
    write_lora(folder / "one.safetensors", 1)
    write_lora(folder / "two.safetensors", 2, ("unet",))
    write_lora(folder / "words.safetensors", 3, ("te",))
    return folder


def latents(folder: Path, models: Path, bodies: list[dict[str, Any]], **options: Any) -> list[torch.Tensor]:
    """Final latents of jobs run side by side."""
    studio = Studio(folder, models=models, checkpoint_interval_s=0.0, **options)
    for index, body in enumerate(bodies):
        studio.submit(f"job{index}", studio.resolve(**{**SMALL, **body}))
    studio.finish()
    studio.loop.stop()
    assert not studio.told.ends, studio.told.ends
    snapshots = [
        read(Path(studio.told.checkpoints[f"job{index}", 1][-1]), torch.device("cpu")) for index in range(len(bodies))
    ]
    return [result.x for each in snapshots for result in each.results.values() if isinstance(result, Latent)]


def use(*names: str, **strengths: float) -> dict[str, Any]:
    return {"loras": [{"name": name, **strengths} for name in names]}


def test_other_loras_in_one_pass_equal_their_lone_runs(tmp_path: Path, models: Path) -> None:
    bodies = [use("one"), use("two", strength=0.5), use("one", "two", strength=-0.7), use("words"), {}]
    together = latents(tmp_path / "together", models, bodies, max_batch=16)
    for index, body in enumerate(bodies):
        (alone,) = latents(tmp_path / f"alone{index}", models, [body])
        assert float((together[index] - alone).abs().max()) < 1e-4 * max(1.0, float(alone.std())), body
    plain = together[-1]
    assert all(float((each - plain).abs().max()) > 1e-2 for each in together[:-1]), "each LoRA changes something"


def test_strength_0_and_detaching_give_the_base_to_the_bit(tmp_path: Path, models: Path) -> None:
    studio = Studio(tmp_path, models=models)
    base = studio.draw("base", **SMALL, deterministic=True)
    changed = studio.draw("changed", **SMALL, **use("one"), deterministic=True)
    again = studio.draw("again", **SMALL, deterministic=True)
    zero = studio.draw("zero", **SMALL, **use("one", strength=0.0), deterministic=True)
    assert np.abs(changed - base).max() > 2
    assert np.array_equal(base, again)
    assert np.array_equal(base, zero)
    # nine other adapters push the first one out
    for seed in range(10, 19):
        write_lora(models / f"many{seed}.safetensors", seed)
        studio.draw(f"many{seed}", **SMALL, **use(f"many{seed}"))
    assert np.array_equal(base, studio.draw("last", **SMALL, deterministic=True))
    studio.loop.stop()


def test_what_a_lora_holds_for_no_one_is_said(tmp_path: Path, models: Path) -> None:
    tensors = {
        "lora_unet_down_blocks_7_attentions_0_nowhere.lora_down.weight": torch.ones(2, 4),
        "lora_unet_down_blocks_7_attentions_0_nowhere.lora_up.weight": torch.ones(4, 2),
        "lora_unet_down_blocks_7_attentions_0_nowhere.alpha": torch.tensor(2.0),
    }
    save_file(tensors, models / "foreign.safetensors")
    studio = Studio(tmp_path, models=models)
    studio.draw("job", **SMALL, **use("foreign"))
    studio.loop.stop()
    warnings = [data["message"] for kind, data in studio.told.events["job", 1] if kind == "warning"]
    assert len(warnings) == 1 and "nowhere" in warnings[0] and "foreign" in warnings[0]

"""Memory as it is planned: passes get narrower, pictures are tiled, and an autoencoder that overflows is widened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.builders.stable_diffusion import tiny_stable_diffusion, write_single_file

from safelight.engine.families.sd.network import UNetNetwork

from .studio import Studio

SMALL: dict[str, Any] = {"model": "tiny", "width": 64, "height": 64, "steps": 3}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    write_single_file(tiny_stable_diffusion(), tmp_path / "models" / "tiny.safetensors")
    return tmp_path / "models"


def warnings(studio: Studio, job: str) -> list[str]:
    return [data["message"] for kind, data in studio.told.events[job, 1] if kind == "warning"]


def test_an_autoencoder_that_overflows_is_computed_in_fp32_and_remembered(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = tiny_stable_diffusion()
    with torch.no_grad():
        model.vae.decoder.conv_in.weight.mul_(1e5)  # beyond fp16's 65,504; the norm after it takes it back
    write_single_file(model, tmp_path / "models" / "tiny.safetensors")
    whole = Studio(tmp_path / "fp32", models=tmp_path / "models")
    half = Studio(tmp_path / "fp16", models=tmp_path / "models", dtype="fp16")
    wanted, got = whole.draw("job", **SMALL), half.draw("job", **SMALL)
    assert np.abs(got - wanted).mean() < 4
    assert any("fp32 from now on" in each for each in warnings(half, "job"))
    half.loop.bench.working.relieve()
    again = half.draw("again", **SMALL)
    assert np.array_equal(again, got)
    assert warnings(half, "again") == [], "it is loaded in fp32 at once"
    for each in (whole, half):
        each.loop.stop()


def test_passes_are_as_wide_as_bytes_allow(tmp_path: Path, models: Path) -> None:
    studio = Studio(tmp_path, models=models)
    studio.draw("first", **SMALL)
    bench = studio.loop.bench
    key = next(key for key in bench.working.peaks.bytes if key[0].endswith("/network"))
    for width in range(1, 9):
        for _ in range(2):
            bench.working.peaks.observe(key, width, width * 10 << 20)
    network = next(each for each in bench.held() if each.key.endswith("/network"))
    bench.budget = network.bytes + (45 << 20)
    studio.told.passes.clear()
    for seed in range(4):
        studio.submit(f"job{seed}", studio.resolve(**SMALL, seed=seed))
    studio.finish()
    assert len(studio.told.results) == 5
    assert max(width for _, width in studio.told.passes) == 4, "four rows of ten MiB, and not the eight that wait"
    studio.loop.stop()


def test_a_row_that_runs_out_alone_fails_alone_with_the_plan(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = UNetNetwork.denoise

    def hungry(network: Any, x: torch.Tensor, sigmas: Any, conditionings: Any) -> torch.Tensor:
        if x.shape[-1] > 8:
            torch.empty(1 << 50, dtype=torch.uint8)  # torch's own error
        return real(network, x, sigmas, conditionings)

    monkeypatch.setattr(UNetNetwork, "denoise", hungry)
    studio = Studio(tmp_path, models=models)
    studio.submit("small", studio.resolve(**SMALL))
    studio.submit("large", studio.resolve(**{**SMALL, "width": 128, "height": 128}))
    studio.finish()
    assert ("small", 1) in studio.told.results
    end, error = studio.told.ends["large", 1]
    assert (end, error["kind"]) == ("refused", "out_of_memory")
    assert "A pass over 128 x 128 pixels with tiny ran out of memory" in error["message"]
    assert "devices.memory_hard_gib" in error["hint"] and "ask for at most" in error["hint"]
    studio.loop.stop()

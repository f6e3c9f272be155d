"""The worst day, in one process: full disks, changed files, networks that fail."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.builders.stable_diffusion import tiny_stable_diffusion, write_single_file

from safelight.engine import checkpoint

from .studio import Studio

SMALL: dict[str, Any] = {"model": "tiny", "width": 64, "height": 64, "steps": 3}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path / "models"
    folder.mkdir()
    write_single_file(tiny_stable_diffusion(), folder / "tiny.safetensors")
    return folder


@pytest.fixture
def studio(tmp_path: Path, models: Path) -> Iterator[Studio]:
    made = Studio(tmp_path, models=models, checkpoint_interval_s=0.0)
    yield made
    made.loop.stop()


def full(*given: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_job_outlives_checkpoints_that_cannot_be_written(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "write", full)
    studio.draw("job", **SMALL)
    assert ("job", 1) not in studio.told.checkpoints
    warnings = [data["message"] for kind, data in studio.told.events["job", 1] if kind == "warning"]
    assert warnings and all("No space left" in each for each in warnings)


@pytest.mark.parametrize(
    "error",
    [MemoryError("no memory is left"), torch.OutOfMemoryError("no memory is left"),
     RuntimeError("DefaultCPUAllocator: can't allocate memory: no memory is left")],
)  # fmt: skip
def test_a_checkpoint_that_runs_out_of_memory_is_told_of_and_tried_again(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    write, errors = checkpoint.write, [error]

    def short_once(snapshot: checkpoint.Snapshot, folder: Path) -> None:
        if errors:
            raise errors.pop()
        write(snapshot, folder)

    monkeypatch.setattr(checkpoint, "write", short_once)
    studio.draw("job", **SMALL)
    warnings = [data["message"] for kind, data in studio.told.events["job", 1] if kind == "warning"]
    assert len(warnings) == 1 and "no memory is left" in warnings[0]
    assert studio.told.checkpoints["job", 1], "the next one is written"


def test_a_full_disk_gives_the_job_back_instead_of_failing_it(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = studio.resolve(**SMALL, deterministic=True)
    with monkeypatch.context() as broken:
        broken.setattr("safelight.artifacts.Files.put", full)
        studio.submit("job", resolved)
        studio.finish()
    end, error = studio.told.ends["job", 1]
    assert end == "declined" and "No space left" in error["message"]
    studio.submit("job", resolved, attempt=2, checkpoint=studio.told.checkpoints["job", 1][-1])
    studio.finish()
    assert studio.steps("job", 2) == 0, "only the saving was left"
    studio.submit("again", resolved)
    studio.finish()
    assert np.array_equal(studio.pixels("job", attempt=2), studio.pixels("again"))


def test_weights_that_were_replaced_are_noticed(studio: Studio, models: Path) -> None:
    resolved = studio.resolve(**SMALL)
    write_single_file(tiny_stable_diffusion(prediction="v", seed=9), models / "tiny.safetensors")
    studio.submit("job", resolved)
    studio.finish()
    end, error = studio.told.ends["job", 1]
    assert (end, error["kind"]) == ("refused", "unreadable_file")
    assert "changed" in error["message"] and "submit again" in error["hint"]
    studio.draw("anew", **SMALL)


def test_a_network_that_fails_for_one_fails_for_no_one_else(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    from safelight.engine.families.sd.network import UNetNetwork

    real = UNetNetwork.denoise

    def sometimes(network: Any, x: torch.Tensor, sigmas: Any, conditionings: Any) -> torch.Tensor:
        if any(abs(sigma - 7.0) < 1e-6 for sigma in sigmas):
            raise TypeError("this sigma is poison")
        return real(network, x, sigmas, conditionings)

    monkeypatch.setattr(UNetNetwork, "denoise", sometimes)
    for seed in range(3):
        studio.submit(f"sound{seed}", studio.resolve(**SMALL, seed=seed))
    ill = {"schedule": "exponential", "schedule_options": {"sigma_max": 7.0}}
    studio.submit("ill", studio.resolve(**SMALL, **ill))
    studio.finish()
    end, error = studio.told.ends["ill", 1]
    assert (end, error["kind"]) == ("error", "TypeError") and "poison" in error["trace"]
    assert {job for job, _ in studio.told.results} == {"sound0", "sound1", "sound2"}
    assert max(width for _, width in studio.told.passes) >= 6

"""Several checkpoints within a byte budget: what is idle leaves, what is in use stays, what cannot fit is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.builders.stable_diffusion import tiny_stable_diffusion, write_single_file

from .studio import Studio

SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 2, "deterministic": True}
NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(NAMES):
        write_single_file(tiny_stable_diffusion(seed=seed), folder / f"{name}.safetensors")
    return folder


def held_by_one(folder: Path, models: Path) -> int:
    """Bytes of one checkpoint's components in memory."""
    studio = Studio(folder, models=models)
    studio.draw("job", **SMALL, model="one")
    studio.loop.stop()
    return studio.loop.pulse().bytes_held


def begun(studio: Studio) -> list[str]:
    """The components whose reading began, once each time."""
    told = [data for events in studio.told.events.values() for kind, data in events if kind == "loading"]
    return [data["component"] for data in told if data["bytes_done"] == 0]


def test_idle_checkpoints_leave_for_others_and_come_back_the_same(tmp_path: Path, models: Path) -> None:
    one = held_by_one(tmp_path / "alone", models)
    studio = Studio(tmp_path / "budget", models=models, memory_gib=1.5 * one / 2**30)
    first = {name: studio.draw(f"{name}-1", **SMALL, model=name) for name in NAMES}
    assert studio.loop.pulse().bytes_held <= 1.5 * one
    again = {name: studio.draw(f"{name}-2", **SMALL, model=name) for name in NAMES}
    assert all(np.array_equal(first[name], again[name]) for name in NAMES)
    loads = begun(studio)
    again_read = {each for each in loads if loads.count(each) > 1}
    assert again_read, "something had to be read again; what, goes by the seconds that each took to load"
    studio.loop.stop()


def test_checkpoints_that_fit_together_are_read_once(tmp_path: Path, models: Path) -> None:
    studio = Studio(tmp_path, models=models)
    for turn in range(2):
        for name in NAMES:
            studio.submit(f"{name}-{turn}", studio.resolve(**SMALL, model=name))
    studio.finish()
    loads = begun(studio)
    assert sorted(loads) == sorted(f"{name}/{part}" for name in NAMES for part in ("network", "text", "vae"))
    assert len(studio.loop.pulse().holds) == len(NAMES)
    studio.loop.stop()


def test_what_does_not_fit_beside_the_others_waits_and_goes_on(tmp_path: Path, models: Path) -> None:
    # room for one network and something small, not for two networks
    one = held_by_one(tmp_path / "alone", models)
    studio = Studio(tmp_path / "budget", models=models, memory_gib=0.8 * one / 2**30)
    for name in ("one", "two"):
        studio.submit(name, studio.resolve(**SMALL, model=name))
    studio.finish()
    assert ("one", 1) in studio.told.results
    end, error = studio.told.ends["two", 1]
    assert end == "declined" and "in use" in error["message"]
    checkpoint = studio.told.checkpoints["two", 1][-1]
    studio.submit("two", studio.resolve(**SMALL, model="two"), attempt=2, checkpoint=checkpoint)
    studio.finish()
    alone = Studio(tmp_path / "peace", models=models)
    assert np.array_equal(studio.pixels("two", attempt=2), alone.draw("two", **SMALL, model="two"))
    for each in (studio, alone):
        each.loop.stop()


def test_what_never_fits_fails_alone_with_the_bytes(tmp_path: Path, models: Path) -> None:
    one = held_by_one(tmp_path / "alone", models)
    studio = Studio(tmp_path / "budget", models=models, memory_gib=1.2 * one / 2**30)
    studio.submit("large", studio.resolve(**SMALL, model="postcards"))
    studio.submit("small", studio.resolve(**SMALL, model="one"))
    studio.finish()
    end, error = studio.told.ends["large", 1]
    assert (end, error["kind"]) == ("refused", "out_of_memory")
    assert "postcards" in error["message"] and "MiB" in error["message"] and "devices.memory_gib" in error["hint"]
    assert studio.pixels("small").shape == (16, 16, 3)
    assert ("small", 1) in studio.told.results
    studio.loop.stop()

"""What an extension adds works like what is built in, without a line changed elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from safelight.core.tables import build_tables
from safelight.errors import InvalidRequest

from .studio import Studio

EXTENSION = "tests.acceptance.swatches"
SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 4}


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    torch.set_num_threads(1)
    made = Studio(tmp_path, extensions=(EXTENSION,))
    yield made
    made.loop.stop()


def test_a_sampler_of_an_extension_draws(studio: Studio) -> None:
    """Leap is Euler written another way, so it must draw Euler's picture."""
    leap = studio.draw("leap", **SMALL, sampler="leap")
    euler = studio.draw("euler", **SMALL, sampler="euler")
    assert np.abs(leap - euler).max() <= 2
    with pytest.raises(InvalidRequest, match="leap"):
        Studio(studio.folder / "without").resolve(**SMALL, sampler="leap")


def test_a_guidance_of_an_extension_wraps_the_built_in_ones(studio: Studio) -> None:
    plain = studio.draw("plain", **SMALL, guidance=[{"kind": "rescale"}])
    same = studio.draw("same", **SMALL, guidance=[{"kind": "rescale"}, {"kind": "dim", "by": 1.0}])
    assert np.array_equal(plain, same)
    nothing = [{"kind": "dim", "by": 0.0}]
    one, other = (studio.draw(f"nothing{seed}", **SMALL, seed=seed, guidance=nothing) for seed in (1, 2))
    assert np.abs(one - other).max() <= 1, "a clean latent of zero is the same picture whatever the seed"
    assert np.abs(one - plain).max() > 1
    with pytest.raises(InvalidRequest, match="by"):
        studio.resolve(**SMALL, guidance=[{"kind": "dim", "by": 3}])


def test_an_operation_of_an_extension_with_a_stage_of_its_own(studio: Studio) -> None:
    request = studio.contract.parse({"operation": "image.swatch", "grey": 77})
    spec = studio.contract.spec("image.swatch")
    assert spec.summary == "A picture of one colour."
    resolved = __import__(EXTENSION, fromlist=["resolve"]).resolve(request, _context(studio))
    studio.submit("swatch", resolved)
    studio.finish()
    assert np.array_equal(studio.pixels("swatch"), np.full((128, 128, 3), 77, dtype=np.float32))
    assert studio.told.results["swatch", 1]["grey"] == 77
    assert "fill" in studio.told.results["swatch", 1]["timings"]


def test_tables_are_closed_once_built() -> None:
    tables = build_tables((EXTENSION,))
    with pytest.raises(ValueError, match="closed"):
        tables.samplers.register(next(iter(tables.samplers)))


def _context(studio: Studio) -> Any:
    from safelight.workflows.context import Context

    return Context(studio.catalog, studio.tables)

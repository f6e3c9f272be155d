"""A walk that was stopped after any move, written to a file and read by a new one, ends in the same bits."""

from __future__ import annotations

import pytest
import torch
from tests.unit.sampling.drive import drive, mixture, read, stream, written

from safelight.core.samplers import complete_options, sampler_table
from safelight.engine.sampling.paths import VE, Flow
from safelight.engine.sampling.table import plan_of

torch.set_num_threads(1)
SHAPE = (2, 5, 3)
EXTRA = {"euler": {"s_churn": 5.0}, "heun": {"s_churn": 5.0}, "ddim": {"eta": 0.7}}


@pytest.mark.parametrize("source", ["a1111", "comfy"])
@pytest.mark.parametrize("path", [VE(), Flow()], ids=["ve", "flow"])
@pytest.mark.parametrize("record", list(sampler_table()), ids=lambda record: record.id)
def test_stop_and_resume_at_every_move(record, path, source):
    options = EXTRA.get(record.id, {}) if path.name == "ve" or record.id == "ddim" else {}
    first = 14.6 if path.name == "ve" else 1.0
    sigmas = [first * (1 - i / 8) ** 3 for i in range(9)]
    noise, noises = stream(sigmas, SHAPE, source)
    start = path.start(noise, first)
    whole = drive(record, mixture, sigmas, start, noise=noises, options=options, path=path)
    assert whole.done == len(plan_of(record)(sigmas, complete_options(record, options)))
    for stop in range(whole.done + 1):
        again, before = stream(sigmas, SHAPE, source)
        assert torch.equal(again, noise)
        stopped = drive(record, mixture, sigmas, start, noise=before, options=options, path=path, moves=stop)
        file = written(stopped, before)
        after = stream(sigmas, SHAPE, source)[1]
        resumed = drive(record, mixture, sigmas, read(file, after), noise=after, options=options, path=path)
        assert resumed.done == whole.done
        assert torch.equal(resumed.x, whole.x)
        assert written(resumed, after) == written(whole, noises)

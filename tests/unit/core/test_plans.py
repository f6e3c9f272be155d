"""What of a stored plan a worker can take up, and when no worker ever will."""

from __future__ import annotations

import pytest

from safelight.core.plans import differences, refusal

PLAN = {"device": "cpu", "capability": "AVX512", "dtype": "fp32", "threads": 2, "torch": "2.9.0", "tiling": "by size"}


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({}, ()),
        ({"threads": 8}, ()),
        ({"dtype": "bf16"}, ("dtype was fp32, here it is bf16",)),
        ({"device": "cuda"}, ("device was cpu, here it is cuda",)),
        ({"capability": "AVX2"}, ("capability was AVX512, here it is AVX2",)),
        ({"torch": "2.10.0"}, ("torch was 2.9.0, here it is 2.10.0",)),
        ({"tiling": "by rung", "threads": 1}, ("tiling was by size, here it is by rung",)),
        ({"dtype": None}, ("dtype was fp32, here it is not told",)),
        ({"graphs": True}, ("graphs was not told, here it is True",)),
        (
            {"dtype": "bf16", "torch": "2.10.0"},
            ("dtype was fp32, here it is bf16", "torch was 2.9.0, here it is 2.10.0"),
        ),
    ],
)
def test_a_worker_takes_up_all_but_threads_as_it_is_or_not_at_all(own, said):
    assert differences(PLAN, {**PLAN, **own}) == said


OTHER = {**PLAN, "dtype": "bf16"}
FAR = {**PLAN, "dtype": "bf16", "device": "cuda"}


@pytest.mark.parametrize(
    ("workers", "named"),
    [
        ({}, ""),
        ({"w0": None}, ""),
        ({"w0": PLAN}, ""),
        ({"w0": OTHER, "w1": {**PLAN, "threads": 1}}, ""),
        ({"w0": OTHER, "w1": None}, ""),
        ({"w0": OTHER}, "the worker w0: dtype was fp32, here it is bf16."),
        ({"w0": FAR, "w1": OTHER}, "the worker w1: dtype was fp32, here it is bf16."),
    ],
)
def test_only_where_no_worker_ever_will_it_is_refused(workers, named):
    said = refusal(PLAN, workers)
    assert bool(said) == bool(named) and said.endswith(named)

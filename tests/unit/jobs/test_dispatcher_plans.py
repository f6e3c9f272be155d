"""Plans and the dispatcher: a deterministic job that has begun goes where its plan can be taken up, waits, or fails."""

from __future__ import annotations

import pytest

from safelight.core.states import JobState
from safelight.jobs.dispatcher import AssignTo, PassOver, Refuse, WorkerView, assign
from safelight.jobs.records import Job

PLAN = {"device": "cpu", "dtype": "fp32", "threads": 2}
OTHER = {**PLAN, "dtype": "bf16"}


def job(job_id: str = "begun", **fields) -> Job:
    return Job(
        id=job_id, owner="ada", operation="image.generate", state=JobState.QUEUED, request={}, resolved={},
        priority=0, tags=(), created_at=0.0, **fields,
    )  # fmt: skip


def worker(worker_id: str, plan=None, **fields) -> WorkerView:
    return WorkerView(worker_id, "cpu", bytes=2**30, max_open=2, plan=plan, **fields)


def up_to(worker_id: str) -> AssignTo:
    return AssignTo("begun", worker_id)


@pytest.mark.parametrize(
    ("plan", "workers", "decided"),
    [
        (None, [worker("w0", OTHER)], [up_to("w0")]),
        (PLAN, [worker("w0", PLAN)], [up_to("w0")]),
        (PLAN, [worker("w0", OTHER), worker("w1", PLAN)], [up_to("w1")]),
        (PLAN, [worker("w0", OTHER), worker("w1", {**PLAN, "threads": 9})], [up_to("w1")]),
        (PLAN, [worker("w0", OTHER), worker("w1", PLAN, ready=False)], []),
        (PLAN, [worker("w0", OTHER), worker("w1", None, ready=False)], []),
        (PLAN, [], []),
    ],
)
def test_it_goes_where_its_plan_can_be_taken_up_or_waits_for_that(plan, workers, decided):
    assert assign([job(plan=plan)], [], workers, 0.0, 0.0) == decided


@pytest.mark.parametrize("pin", [None, "w0", "cpu"])
def test_it_fails_with_the_difference_where_nobody_can(pin):
    (refused,) = assign([job(plan=PLAN, worker=pin)], [], [worker("w0", OTHER)], 0.0, 0.0)
    assert isinstance(refused, Refuse) and refused.kind == "plan_unavailable"
    assert "dtype was fp32, here it is bf16" in refused.message and "retry" in refused.hint


def test_a_pinned_one_is_not_helped_by_others():
    (refused,) = assign([job(plan=PLAN, worker="w0")], [], [worker("w0", OTHER), worker("w1", PLAN)], 0.0, 0.0)
    assert isinstance(refused, Refuse) and "the worker w0" in refused.message


def test_others_overtake_while_it_waits():
    workers = [worker("w0", OTHER), worker("w1", None, ready=False)]
    assert assign([job(plan=PLAN), job("new")], [], workers, 0.0, 0.0) == [AssignTo("new", "w0"), PassOver(("begun",))]

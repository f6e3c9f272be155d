"""What a job carries besides its request: the plan it computes by, and the group it belongs to."""

from __future__ import annotations

import pytest
from tests.conformance.stores.making import again, started, submitted

from safelight.core.states import AttemptEnd
from safelight.errors import NotFound, StaleAttempt
from safelight.jobs.records import Filter
from safelight.jobs.store import Store

pytestmark = pytest.mark.anyio

PLAN = {"dtype": "fp32", "threads": 2, "tiles": [64, None]}


async def test_the_first_plan_stays(store: Store, reopen) -> None:
    job = await started(store)
    assert job.plan is None
    assert (await store.set_plan(job.id, 1, PLAN)).plan == PLAN
    await store.release(job.id, 1, AttemptEnd.KILLED, "")
    await again(store, job.id)
    assert (await store.set_plan(job.id, 2, {"dtype": "bf16"})).plan == PLAN
    store = await reopen()
    assert (await store.get(job.id)).plan == PLAN
    (listed,) = await store.running()
    assert listed.plan == PLAN


async def test_a_plan_is_fenced(store: Store) -> None:
    job = await started(store)
    await store.release(job.id, 1, AttemptEnd.KILLED, "")
    for attempt in (1, 2):
        with pytest.raises(StaleAttempt):
            await store.set_plan(job.id, attempt, PLAN)
    with pytest.raises(NotFound):
        await store.set_plan("nobody", 1, PLAN)
    assert (await store.get(job.id)).plan is None


async def test_groups(store: Store, reopen) -> None:
    first, second, other, lone = [await submitted(store, group=group) for group in ("grid", "grid", "Grid", None)]
    assert (first.group, lone.group) == ("grid", None)

    async def members(group: str | None, **wanted) -> list[str]:
        return [job.id for job in await store.jobs(Filter(group=group, **wanted))]

    assert await members("grid") == [second.id, first.id]
    assert await members("grid", before=second.id) == [first.id]
    assert await members("grid", owner="bob") == []
    assert (await store.update(lone.id, group="grid")).group == "grid"
    assert (await store.update(first.id, group="")).group is None
    assert (await store.update(second.id, priority=3)).group == "grid"
    store = await reopen()
    assert await members("grid") == [lone.id, second.id]
    assert await members(None) == [lone.id, other.id, second.id, first.id]

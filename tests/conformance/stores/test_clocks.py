"""Clocks that jump: ages go on, leases and order do not care, and what people read is what the wall clock says."""

from __future__ import annotations

import pytest
from tests.conformance.stores.making import Clock, artifact, new_job, started, submitted

from safelight.core.events import EventKind
from safelight.jobs.records import ArtifactFilter, Filter, Upload
from safelight.jobs.steady import LONGEST_GAP_S
from safelight.jobs.store import Store

pytestmark = pytest.mark.anyio

DAY = 86_400.0
JUMPS = [40 * DAY, -40 * DAY, 50 * 365 * DAY, -50 * 365 * DAY]


async def finished(store: Store, **fields):
    job = await started(store, **fields)
    await store.add_artifact(artifact(job), 1)
    return await store.succeed(job.id, 1, {}, {}, 0)


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_jump_makes_nothing_older_or_younger(store: Store, wall: Clock, tick: Clock, jump: float) -> None:
    await finished(store)
    before = store.steady()
    wall.seconds += jump
    tick.seconds += 100
    await finished(store)
    assert store.steady() == before + 100
    assert [each.ended for each in await store.finished()] == [before, before + 100]


@pytest.mark.parametrize("jump", JUMPS)
async def test_the_bin_and_uploads_are_as_old_as_the_server_saw(store: Store, wall: Clock, tick: Clock, jump) -> None:
    job = await finished(store)
    await store.update_artifact(job.artifacts[0].id, binned=True)
    await store.add_upload(Upload("a" * 64, "ada", "image/png", 1, 1, 1))
    wall.seconds += jump
    tick.seconds += 100
    for age, gone in ((101, 0), (99, 1)):
        assert await store.empty_bin(store.steady() - age) == gone
        assert await store.forget_uploads(store.steady() - age) == gone


@pytest.mark.parametrize(
    ("off", "counted"),
    [(0.0, 0.0), (3600.0, 3600.0), (LONGEST_GAP_S, LONGEST_GAP_S), (40 * DAY, LONGEST_GAP_S), (-40 * DAY, 0.0)],
)
async def test_a_restart_adds_the_time_that_went_by_but_never_much(store, reopen, wall, tick, off, counted) -> None:
    """The wall clock of the next server is `off` further than when time was last kept; its monotonic clock is anew."""
    tick.seconds += 600
    await store.keep_time()
    kept = store.steady()
    wall.seconds += off
    tick.seconds = 3.0
    store = await reopen()
    assert store.steady() == pytest.approx(kept + counted)
    tick.seconds += 10
    assert store.steady() == pytest.approx(kept + counted + 10)


async def test_jobs_of_a_clock_that_was_decades_slow_are_young_when_it_is_set_right(store, reopen, wall, tick) -> None:
    """A board without a battery: it starts in 1970, draws, is told the time, and is started again."""
    wall.seconds = 30.0
    store = await reopen()
    job = await finished(store)
    assert job.ended_at == 30.0
    wall.seconds = 1_800_000_000.0
    tick.seconds += 60
    await store.keep_time()
    store = await reopen()
    [row] = await store.finished()
    assert store.steady() - row.ended == pytest.approx(60)


@pytest.mark.parametrize("jump", JUMPS)
async def test_order_and_pages_know_no_clock(store: Store, wall: Clock, jump: float) -> None:
    jobs = [await finished(store)]
    for _ in range(3):
        wall.seconds += jump
        jump = -jump
        jobs.append(await finished(store))
    ids = [job.id for job in reversed(jobs)]
    first = await store.jobs(Filter(limit=2))
    assert [job.id for job in first + await store.jobs(Filter(before=first[-1].id))] == ids
    page = await store.artifacts(ArtifactFilter(limit=2))
    rest = await store.artifacts(ArtifactFilter(before=page[-1].id))
    assert [each.job_id for each in page + rest] == ids
    sequences = [event.sequence for event in await store.events_of(None)]
    assert sequences == sorted(sequences)
    for job in jobs:
        assert [event.number for event in await store.events(job.id)] == [1, 2, 3, 4]


@pytest.mark.parametrize("jump", JUMPS)
async def test_leases_and_fair_turns_know_no_wall_clock(store: Store, wall: Clock, tick: Clock, jump: float) -> None:
    job = await started(store, lease_s=10.0)
    waiting = [await submitted(store) for _ in range(2)]
    wall.seconds += jump
    tick.seconds += 9
    assert await store.expired() == []
    assert await store.heartbeat("w0", [(job.id, 1)], 10.0) == []
    assert [each.id for each in await store.waiting(wall.seconds)] == [each.id for each in waiting]
    tick.seconds += 10
    assert [each.id for each in await store.expired()] == [job.id]


@pytest.mark.parametrize("jump", JUMPS)
async def test_not_before_is_a_time_of_the_wall_clock_as_it_stands(store: Store, wall: Clock, jump: float) -> None:
    job, _ = await store.submit(new_job(not_before=wall.seconds + 3600))
    assert await store.waiting(wall.seconds) == []
    wall.seconds += jump
    assert [each.id for each in await store.waiting(wall.seconds)] == ([job.id] if jump > 0 else [])
    claimed = await store.claim(job.id, "w0", 10.0)
    assert claimed is not None and claimed.started_at == wall.seconds
    assert [event.kind for event in await store.events(job.id)] == [EventKind.QUEUED, EventKind.STARTED]

"""The order of the line, and that a job has one taker."""

from __future__ import annotations

import asyncio

import pytest
from tests.conformance.stores.making import again, started, submitted

from safelight.core.events import EventKind
from safelight.core.states import AttemptEnd, JobState
from safelight.errors import Conflict
from safelight.jobs.store import Store

pytestmark = pytest.mark.anyio


async def line(store: Store, now: float = 0.0, limit: int = 200) -> list[str]:
    return [job.id for job in await store.waiting(now, limit)]


async def test_priority_then_a_turn_for_each_owner_then_age(store: Store) -> None:
    for job_id, owner, priority in [
        ("a1", "ada", 0), ("a2", "ada", 0), ("a3", "ada", 0), ("b1", "bob", 0), ("c1", "cyd", -1), ("b2", "bob", 0),
        ("a4", "ada", 7),
    ]:  # fmt: skip
        await submitted(store, id=job_id, owner=owner, priority=priority)
    assert await line(store) == ["a4", "a1", "b1", "a2", "b2", "a3", "c1"]
    assert await line(store, limit=2) == ["a4", "a1"]


async def test_one_slot_is_shared_in_rotation(store: Store) -> None:
    for n in range(4):
        await submitted(store, id=f"a{n}", owner="ada")
    for n in range(2):
        await submitted(store, id=f"b{n}", owner="bob")
    await submitted(store, id="c0", owner="cyd")
    order = []
    for _ in range(7):
        (first,) = await line(store, limit=1)
        order.append(first)
        attempt = await again(store, first)
        await store.succeed(first, attempt, {}, {}, 0)
    assert order == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


async def test_not_before(store: Store) -> None:
    await submitted(store, id="later", not_before=100.0)
    assert await line(store, now=99.0) == []
    assert await line(store, now=100.0) == ["later"]


async def test_jobs_accepted_after_a_number(store: Store, reopen) -> None:
    """What a store held when its server began is told apart from what came since, also what ran or was forgotten."""
    assert await store.newest() == 0
    for job_id in ("old", "paused", "over"):
        await submitted(store, id=job_id)
    await store.request_pause("paused")
    await store.succeed("over", await again(store, "over"), {}, {}, 0)
    store = await reopen()
    newest = await store.newest()
    assert await store.forget(["over"]) == 1 and await store.newest() == newest
    await submitted(store, id="new", priority=-1)
    await store.resume("paused")
    assert await store.newest() == newest + 1
    assert await line(store) == ["old", "paused", "new"]
    assert [job.id for job in await store.waiting(0.0, after=newest)] == ["new"]
    assert await store.waiting(0.0, after=newest + 1) == []


async def test_of_100_claims_at_once_one_wins(store: Store) -> None:
    job = await submitted(store)
    claims = await asyncio.gather(*(store.claim(job.id, f"w{n}", 10.0) for n in range(100)))
    (won,) = [claim for claim in claims if claim is not None]
    assert (won.state, won.attempt, len(won.attempts)) == (JobState.RUNNING, 1, 1)
    assert await store.get(job.id) == won
    assert [event.kind for event in await store.events(job.id)] == [EventKind.QUEUED, EventKind.STARTED]
    assert (await store.counts())[JobState.RUNNING] == 1


async def test_nobody_claims_what_is_not_there(store: Store) -> None:
    assert await store.claim("nobody", "w0", 10.0) is None


async def test_running_tells_the_worker(store: Store) -> None:
    job = await started(store, by="w3")
    (running,) = await store.running()
    assert running == job
    assert running.attempts[-1].worker == "w3"


async def test_being_passed_over_is_counted_until_the_turn_comes(store: Store) -> None:
    job, other = await submitted(store), await started(store)
    for _ in range(3):
        await store.pass_over([job.id, other.id, "nobody"])
    assert (await store.get(job.id)).passed_over == 3
    assert (await store.get(other.id)).passed_over == 0
    await again(store, job.id)
    assert (await store.get(job.id)).passed_over == 0


async def test_pause_and_resume_in_the_queue(store: Store) -> None:
    job = await submitted(store)
    assert (await store.request_pause(job.id)).state is JobState.PAUSED
    assert await line(store) == []
    assert await store.claim(job.id, "w0", 10.0) is None
    with pytest.raises(Conflict, match="paused"):
        await store.request_pause(job.id)
    assert (await store.resume(job.id)).state is JobState.QUEUED
    with pytest.raises(Conflict, match="queued"):
        await store.resume(job.id)
    kinds = [event.kind for event in await store.events(job.id)]
    assert kinds == [EventKind.QUEUED, EventKind.PAUSED, EventKind.QUEUED]


async def test_cancel_in_the_queue_and_when_paused(store: Store) -> None:
    queued, paused = await submitted(store), await submitted(store)
    await store.request_pause(paused.id)
    for job in (queued, paused):
        cancelled = await store.request_cancel(job.id, "ada")
        assert (cancelled.state, cancelled.ended_at) == (JobState.CANCELLED, 1_800_000_000.0)
        assert await store.request_cancel(job.id) == cancelled
        assert (await store.events(job.id))[-1].kind is EventKind.CANCELLED
    assert await store.claim(queued.id, "w0", 10.0) is None


async def test_a_queued_job_can_be_refused(store: Store) -> None:
    job, running = await submitted(store), await started(store)
    refused = await store.refuse(job.id, "deadline", "It is too late.", "Ask sooner.")
    assert refused.state is JobState.FAILED
    assert refused.failure == {"kind": "deadline", "message": "It is too late.", "hint": "Ask sooner.", "trace": ""}
    last = (await store.events(job.id))[-1]
    assert (last.kind, last.data) == (EventKind.FAILED, refused.failure)
    assert await store.refuse(running.id, "deadline", "") == running


async def test_counts_agree_with_the_jobs_after_all_kinds_of_moves(store: Store) -> None:
    jobs = [await submitted(store, priority=n % 3, owner=f"o{n % 2}") for n in range(12)]
    for job in jobs[:8]:
        await store.claim(job.id, "w0", 10.0)
    await store.succeed(jobs[0].id, 1, {}, {}, 0)
    await store.release(jobs[1].id, 1, AttemptEnd.REFUSED, "")
    await store.release(jobs[2].id, 1, AttemptEnd.KILLED, "")
    await store.release(jobs[3].id, 1, AttemptEnd.CANCELLED, "")
    await store.request_pause(jobs[9].id)
    await store.update(jobs[10].id, priority=9)
    await store.forget([jobs[0].id, jobs[11].id])
    assert await store.counts() == {
        JobState.QUEUED: 4, JobState.RUNNING: 4, JobState.PAUSED: 1, JobState.SUCCEEDED: 0, JobState.FAILED: 1,
        JobState.CANCELLED: 1,
    }  # fmt: skip

"""Numbers without gaps, one order of commits, and listeners that see it."""

from __future__ import annotations

import asyncio

import pytest
from tests.conformance.stores.making import again, artifact, new_job, started, submitted

from safelight.core.events import Event, EventKind
from safelight.core.states import AttemptEnd
from safelight.errors import Conflict, StaleAttempt
from safelight.jobs.store import Store

pytestmark = pytest.mark.anyio


async def busy(store: Store) -> list[str]:
    """Many writers at once, some of whom are refused; the ids of their jobs."""
    jobs = [await started(store, id=f"busy{n}", owner=f"o{n % 2}") for n in range(8)]

    async def life(n: int) -> None:
        job = jobs[n]
        for step in range(10):
            await store.append(job.id, 1, [(EventKind.STEP, {"step": step}), (EventKind.STAGE, {"stage": "x"})])
            with pytest.raises(StaleAttempt):
                await store.append(job.id, 7, [(EventKind.STEP, {"step": -1})])
        await store.add_artifact(artifact(job), 1)
        with pytest.raises(Conflict):
            await store.submit(new_job("another body", id=job.id, owner=job.owner))
        await store.release(job.id, 1, AttemptEnd.KILLED, "")
        await store.succeed(job.id, await again(store, job.id), {}, {}, 0)

    await asyncio.gather(*(life(n) for n in range(8)))
    return [job.id for job in jobs]


async def test_numbers_have_no_gaps_and_sequences_rise(store: Store) -> None:
    ids = await busy(store)
    for job_id in ids:
        events = await store.events(job_id)
        assert [event.number for event in events] == list(range(1, 27))
        assert [event.data["step"] for event in events if event.kind is EventKind.STEP] == list(range(10))
    everything = await store.events_of(None, limit=10_000)
    assert len(everything) == 8 * 26
    sequences = [event.sequence for event in everything]
    assert sequences == sorted(set(sequences))
    for job_id in ids:
        assert [event for event in everything if event.job_id == job_id] == await store.events(job_id)


async def test_listeners_see_every_commit_once_and_in_order(store: Store) -> None:
    heard: list[Event] = []
    end = store.listen(heard.extend)
    await busy(store)
    assert heard == await store.events_of(None, limit=10_000)
    end()
    await submitted(store)
    assert len(heard) == 8 * 26


async def test_a_listener_hears_before_the_writer_is_answered(store: Store) -> None:
    heard: list[Event] = []
    store.listen(heard.extend)
    job = await submitted(store)
    assert heard == await store.events(job.id)


async def test_append_answers_with_what_it_stored(store: Store, wall) -> None:
    job = await started(store)
    stored = await store.append(job.id, 1, [(EventKind.WARNING, {"message": "ü"}), (EventKind.STEP, {"step": 1})])
    assert stored == (await store.events(job.id))[2:] == await store.events(job.id, after=2)
    assert [(event.number, event.at) for event in stored] == [(3, wall.seconds), (4, wall.seconds)]
    assert await store.append(job.id, 1, []) == []


@pytest.mark.parametrize("kind", [EventKind.PREVIEW, EventKind.TEXT, EventKind.SUCCEEDED, EventKind.FAILED])
async def test_append_refuses_what_it_must_not_store(store: Store, kind: EventKind) -> None:
    job = await started(store)
    with pytest.raises(ValueError, match=kind.value):
        await store.append(job.id, 1, [(EventKind.STEP, {}), (kind, {})])
    assert len(await store.events(job.id)) == 2


async def test_events_of_an_owner(store: Store) -> None:
    mine = [await submitted(store), await submitted(store, owner="bob"), await submitted(store)]
    events = await store.events_of("ada")
    assert [event.job_id for event in events] == [mine[0].id, mine[2].id]
    assert await store.events_of("ada", after=events[0].sequence) == events[1:]
    assert await store.events_of("ada", limit=1) == events[:1]


async def test_numbers_go_on_after_a_restart(store: Store, reopen) -> None:
    job = await started(store)
    before = await store.events(job.id)
    store = await reopen()
    await store.release(job.id, 1, AttemptEnd.SERVER_STOPPED, "")
    after = await store.events(job.id)
    assert after[:2] == before
    assert after[2].number == 3
    assert after[2].sequence > before[1].sequence

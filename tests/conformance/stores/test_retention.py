"""Forgetting: what is over goes with all that hangs on it, and nothing else does."""

from __future__ import annotations

import pytest
from tests.conformance.stores.making import Clock, artifact, checkpoint, new_job, started, submitted

from safelight.core.states import AttemptEnd
from safelight.errors import NotFound
from safelight.jobs.records import Finished, Upload
from safelight.jobs.store import Store

pytestmark = pytest.mark.anyio


async def finished_job(store: Store, **fields):
    job = await started(store, **fields)
    await store.add_artifact(artifact(job, 0, content="same"), 1)
    await store.add_artifact(artifact(job, 1, bytes=234), 1)
    return await store.succeed(job.id, 1, {}, {}, 0)


async def test_finished_jobs_come_oldest_end_first(store: Store, wall: Clock, tick: Clock) -> None:
    slow = await started(store)
    await submitted(store)
    tick.seconds += 1
    quick = await finished_job(store)
    tick.seconds += 1
    await store.release(slow.id, 1, AttemptEnd.REFUSED, "")
    await store.update(slow.id, pinned=True)
    assert await store.finished() == [
        Finished(quick.id, wall.seconds + 1, 1234), Finished(slow.id, wall.seconds + 2, 0, pinned=True),
    ]  # fmt: skip


async def test_forgetting_spares_what_is_alive_or_pinned(store: Store) -> None:
    queued, running, over = await submitted(store), await started(store), await finished_job(store, idempotency_key="k")
    pinned = await finished_job(store)
    await store.update(pinned.id, pinned=True)
    assert await store.forget([queued.id, running.id, over.id, pinned.id, "nobody"]) == 1
    for job in (queued, running, pinned):
        assert (await store.get(job.id)).id == job.id
    with pytest.raises(NotFound):
        await store.get(over.id)
    with pytest.raises(NotFound):
        await store.artifact(over.artifacts[0].id)
    assert await store.events(over.id) == []
    assert {event.job_id for event in await store.events_of(None)} == {queued.id, running.id, pinned.id}
    assert (await store.submit(new_job("its key is free again", idempotency_key="k")))[1]


async def test_a_file_is_named_as_long_as_anybody_needs_it(store: Store, wall: Clock) -> None:
    first, second = await finished_job(store), await finished_job(store)
    shared, own = first.artifacts[0].sha256, first.artifacts[1].sha256
    assert second.artifacts[0].sha256 == shared
    assert await store.named([shared, own, "0" * 64]) == {shared, own}
    await store.forget([first.id])
    assert await store.named([shared, own]) == {shared}
    reader = await submitted(store, files=(shared,))
    await store.forget([second.id])
    assert await store.named([shared]) == {shared}
    await store.request_cancel(reader.id)
    await store.forget([reader.id])
    assert await store.named([shared]) == set()


async def test_uploads_stay_while_young_or_read(store: Store, tick: Clock) -> None:
    read, idle, renewed = [Upload(letter * 64, "ada", "image/png", 1, 1, 1) for letter in "abc"]
    for upload in (read, idle, renewed):
        await store.add_upload(upload)
    await submitted(store, files=(read.id,))
    tick.seconds += 100
    await store.add_upload(renewed)
    assert await store.named([read.id, idle.id]) == {read.id, idle.id}
    assert await store.forget_uploads(before=store.steady() - 50) == 1
    assert await store.named([read.id, idle.id, renewed.id]) == {read.id, renewed.id}
    with pytest.raises(NotFound):
        await store.upload(idle.id)


async def test_unfinished(store: Store) -> None:
    queued, running, over = await submitted(store), await started(store), await finished_job(store)
    await store.set_checkpoint(checkpoint(running))
    assert await store.unfinished([queued.id, running.id, over.id, "nobody"]) == {queued.id, running.id}


async def test_a_job_that_was_forgotten_meanwhile_is_not_retried(store: Store) -> None:
    old = await finished_job(store)
    again = await submitted(store, retry_of=old.id)
    assert again.retry_of == old.id
    await store.forget([old.id])
    with pytest.raises(NotFound, match="to retry"):
        await store.submit(new_job(retry_of=old.id))
    assert (await store.get(again.id)).retry_of == old.id

"""The outbox: what webhooks are to hear of stands there as soon as it has happened, and nothing else does."""

from __future__ import annotations

import pytest
from tests.conformance.stores.making import Clock, artifact, new_job, started, submitted

from safelight.core.events import EventKind
from safelight.core.states import AttemptEnd
from safelight.errors import NotFound
from safelight.jobs.records import Delivery, DeliveryState, Webhook
from safelight.jobs.store import Store

pytestmark = pytest.mark.anyio

LAST = Webhook("https://example.org/hook", ("succeeded", "failed", "cancelled"))
MANY = Webhook("https://example.org/all", ("queued", "started", "warning", "artifact", "retry", "paused", "cancelled"))


async def test_the_last_event_and_its_delivery_are_one(store: Store, reopen) -> None:
    done, failed, gone, silent = [await started(store, webhook=webhook) for webhook in (LAST, LAST, LAST, None)]
    assert done.webhook == LAST
    assert await store.undelivered() == []
    await store.succeed(silent.id, 1, {}, {}, 0)
    await store.succeed(done.id, 1, {"text": "ü"}, {}, 0)
    await store.release(failed.id, 1, AttemptEnd.REFUSED, "no")
    await store.request_cancel(gone.id)
    await store.release(gone.id, 1, AttemptEnd.CANCELLED, "")
    refused, put_off = await submitted(store, webhook=LAST), await submitted(store, webhook=LAST)
    await store.refuse(refused.id, "deadline", "late")
    await store.request_cancel(put_off.id)
    store = await reopen()
    due = await store.undelivered()
    jobs = [done, failed, gone, refused, put_off]
    assert due == [Delivery((await store.events(job.id))[-1], LAST.url) for job in jobs]
    assert [each.event.kind for each in due] == ["succeeded", "failed", "cancelled", "failed", "cancelled"]
    assert len({each.id for each in due}) == 5
    assert (await store.get(done.id)).deliveries == (due[0],)
    assert (await store.get(silent.id)).deliveries == ()


async def test_events_that_were_asked_for_are_put_down_wherever_they_come_from(store: Store) -> None:
    job = await started(store, webhook=MANY)
    await store.append(job.id, 1, [(EventKind.STEP, {"step": 1}), (EventKind.WARNING, {"message": "hot"})])
    await store.add_artifact(artifact(job), 1)
    await store.add_artifact(artifact(job), 1)
    await store.release(job.id, 1, AttemptEnd.KILLED, "")
    await store.request_pause(job.id)
    await store.resume(job.id)
    await store.request_cancel(job.id)
    kinds = [each.event.kind for each in await store.undelivered()]
    assert kinds == ["queued", "started", "warning", "artifact", "retry", "paused", "queued", "cancelled"]
    assert {each.url for each in await store.undelivered()} == {MANY.url}


async def test_a_submission_that_is_undone_leaves_no_delivery(store: Store) -> None:
    job = await submitted(store, webhook=MANY, idempotency_key="k")
    again, is_new = await store.submit(new_job(webhook=MANY, idempotency_key="k"))
    assert (again.id, is_new) == (job.id, False)
    assert len(await store.undelivered()) == 1


async def test_tries_are_counted(store: Store, wall: Clock, reopen) -> None:
    job = await submitted(store, webhook=MANY)
    (due,) = await store.undelivered()
    assert (due.state, due.tries, due.said, due.tried_at) == (DeliveryState.PENDING, 0, "", None)
    wall.seconds += 5
    failed = await store.tried(due, DeliveryState.PENDING, "the address answered 500")
    assert (failed.tries, failed.said, failed.tried_at) == (1, "the address answered 500", wall.seconds)
    store = await reopen()
    assert await store.undelivered() == [failed]
    told = await store.tried(failed, DeliveryState.DELIVERED)
    assert (told.id, told.state, told.tries, told.said) == (due.id, DeliveryState.DELIVERED, 2, "")
    assert await store.undelivered() == []
    assert (await store.get(job.id)).deliveries == (told,)
    await store.request_cancel(job.id)
    dead = await store.tried((await store.undelivered())[0], DeliveryState.DEAD, "gone")
    assert await store.undelivered() == []
    assert (await store.get(job.id)).deliveries == (told, dead)


async def test_what_is_undelivered_is_read_in_pages(store: Store) -> None:
    jobs = [await submitted(store, webhook=MANY) for _ in range(5)]
    pages, after = [], 0
    while page := await store.undelivered(after, 2):
        pages.append([each.event.job_id for each in page])
        after = page[-1].event.sequence
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [each for page in pages for each in page] == [job.id for job in jobs]


async def test_a_forgotten_job_is_not_told_of(store: Store) -> None:
    job = await submitted(store, webhook=LAST)
    await store.request_cancel(job.id)
    (due,) = await store.undelivered()
    await store.forget([job.id])
    assert await store.undelivered() == []
    with pytest.raises(NotFound):
        await store.tried(due, DeliveryState.DELIVERED)

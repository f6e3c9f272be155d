"""What `submit` and the readers promise."""

from __future__ import annotations

import asyncio

import pytest
from tests.conformance.stores.making import artifact, new_job, started, submitted

from safelight.core.events import EventKind
from safelight.core.states import AttemptEnd, JobState
from safelight.errors import Conflict, NotFound, QueueFull
from safelight.jobs.records import Filter, Webhook
from safelight.jobs.store import Store

pytestmark = pytest.mark.anyio


async def test_a_job_comes_back_as_it_was_submitted(store: Store, reopen) -> None:
    await submitted(store, id="old")
    asked = new_job(
        "Hafen bei Nacht 🌃 \udcff", owner="åsa", tags=("a", "ü"), priority=-3, worker="cpu:0", not_before=5.0,
        deadline=9.5, retry_of="old", bytes_needed=2**40, weights_bytes=2**39, files=("f" * 64,),
        group="åland", webhook=Webhook("https://example.org/ü?a=b", ("succeeded", "failed")),
    )  # fmt: skip
    job, new = await store.submit(asked)
    assert new
    assert job == await store.get(asked.id) == await (await reopen()).get(asked.id)
    for name in ("id", "owner", "operation", "request", "resolved", "model_key", "priority", "tags", "worker",
                 "not_before", "deadline", "retry_of", "bytes_needed", "weights_bytes", "fingerprint", "group",
                 "webhook"):  # fmt: skip
        assert getattr(job, name) == getattr(asked, name), name
    assert (job.state, job.attempt, job.created_at) == (JobState.QUEUED, 0, 1_800_000_000.0)


async def test_same_key_and_body_is_the_same_job(store: Store) -> None:
    first, new = await store.submit(new_job("one", idempotency_key="k"))
    second, new_again = await store.submit(new_job("one", idempotency_key="k"))
    assert (new, new_again) == (True, False)
    assert second == first
    assert len(await store.events(first.id)) == 1
    assert (await store.counts())[JobState.QUEUED] == 1


async def test_same_key_other_body_is_a_conflict(store: Store) -> None:
    first = await submitted(store, prompt="one", idempotency_key="k")
    with pytest.raises(Conflict, match=first.id):
        await store.submit(new_job("two", idempotency_key="k"))
    assert (await store.counts())[JobState.QUEUED] == 1


async def test_keys_belong_to_their_owner(store: Store) -> None:
    first = await submitted(store, prompt="one", idempotency_key="k")
    other, new = await store.submit(new_job("two", idempotency_key="k", owner="bob"))
    assert new
    assert other.id != first.id


async def test_a_key_still_answers_when_the_job_is_over(store: Store) -> None:
    job = await started(store, idempotency_key="k")
    await store.succeed(job.id, 1, {}, {}, 0)
    same, new = await store.submit(new_job(idempotency_key="k"))
    assert (same.id, same.state, new) == (job.id, JobState.SUCCEEDED, False)


async def test_the_clients_own_id_is_idempotent(store: Store) -> None:
    _, new = await store.submit(new_job("one", id="mine"))
    _, new_again = await store.submit(new_job("one", id="mine"))
    assert (new, new_again) == (True, False)
    with pytest.raises(Conflict, match="another body"):
        await store.submit(new_job("two", id="mine"))
    with pytest.raises(Conflict, match="taken"):
        await store.submit(new_job("one", id="mine", owner="bob"))
    await submitted(store, prompt="one", id="yours", idempotency_key="k")
    with pytest.raises(Conflict, match="two different jobs"):
        await store.submit(new_job("one", id="mine", idempotency_key="k"))


async def test_a_repeat_is_found_before_it_is_submitted(store: Store) -> None:
    first = new_job(idempotency_key="k")
    assert await store.repeated(first) is None
    job, _ = await store.submit(first)
    assert await store.repeated(new_job(idempotency_key="k")) == job
    assert await store.repeated(new_job(id=job.id)) == job
    assert await store.repeated(new_job(idempotency_key="k", owner="bob")) is None
    for other in (new_job("another", idempotency_key="k"), new_job("another", id=job.id)):
        with pytest.raises(Conflict):
            await store.repeated(other)


async def test_of_32_submissions_at_once_with_one_key_one_is_new(store: Store) -> None:
    answers = await asyncio.gather(*(store.submit(new_job("one", idempotency_key="k")) for _ in range(32)))
    assert sum(new for _, new in answers) == 1
    assert len({job.id for job, _ in answers}) == 1
    assert (await store.counts())[JobState.QUEUED] == 1


async def test_a_full_queue_refuses_but_answers_repetitions(store: Store) -> None:
    answers = await asyncio.gather(
        *(store.submit(new_job(str(n), id=f"j{n}"), max_queued=5) for n in range(20)), return_exceptions=True
    )
    assert sum(isinstance(each, QueueFull) for each in answers) == 15
    assert (await store.counts())[JobState.QUEUED] == 5
    kept = next(answer[0] for answer in answers if isinstance(answer, tuple))
    assert await store.submit(new_job(kept.request["prompt"], id=kept.id), max_queued=5) == (kept, False)
    await store.claim(kept.id, "w0", 10.0)
    assert (await store.submit(new_job("there is room again"), max_queued=5))[1]


async def test_position_counts_the_queued_of_its_priority_and_above(store: Store) -> None:
    async def position(priority: int) -> int:
        job = await submitted(store, priority=priority)
        (event,) = await store.events(job.id)
        assert (event.kind, event.data) == (EventKind.QUEUED, {"position": job.position})
        return job.position

    assert [await position(priority) for priority in (0, 0, 5, -1, 5, 0)] == [1, 2, 1, 4, 2, 5]
    job = await started(store, priority=10)
    await store.update(job.id, priority=-10)
    assert await position(-10) == 7
    await store.release(job.id, 1, AttemptEnd.KILLED, "")
    assert (await store.get(job.id)).position == 8


async def test_other_owners_find_nothing(store: Store) -> None:
    job = await started(store)
    found, _ = await store.add_artifact(artifact(job), 1)
    for missing in (
        store.get(job.id, "bob"),
        store.request_cancel(job.id, "bob"),
        store.request_pause(job.id, "bob"),
        store.resume(job.id, "bob"),
        store.update(job.id, "bob", priority=3),
        store.artifact(found.id, "bob"),
        store.get("nobody"),
        store.refuse("nobody", "deadline", ""),
        store.release("nobody", 1, AttemptEnd.KILLED, ""),
    ):
        with pytest.raises(NotFound):
            await missing
    assert await store.get(job.id, "ada") == await store.get(job.id)


async def test_pages_follow_one_another_newest_first(store: Store) -> None:
    jobs = [await submitted(store, id=f"{chr(122 - n)}{n}") for n in range(7)]
    first = await store.jobs(Filter(limit=3))
    await submitted(store)
    second = await store.jobs(Filter(limit=3, before=first[-1].id))
    third = await store.jobs(Filter(limit=3, before=second[-1].id))
    assert [each.id for each in first + second + third] == [each.id for each in reversed(jobs)]
    with pytest.raises(NotFound):
        await store.jobs(Filter(before="nobody"))


async def test_filters(store: Store) -> None:
    one = await submitted(store, tags=("sea", "night"))
    two = await submitted(store, owner="bob", operation="image.upscale", tags=("sea",))
    three = await started(store)

    async def ids(**wanted) -> list[str]:
        return [job.id for job in await store.jobs(Filter(**wanted))]

    assert await ids(owner="ada") == [three.id, one.id]
    assert await ids(states=(JobState.QUEUED, JobState.PAUSED)) == [two.id, one.id]
    assert await ids(operation="image.upscale") == [two.id]
    assert await ids(tag="sea") == [two.id, one.id]
    assert await ids(tag="sea", owner="ada", states=(JobState.QUEUED,)) == [one.id]
    assert await ids(tag="se") == []


async def test_update_changes_what_is_given(store: Store) -> None:
    job = await submitted(store, tags=("a",))
    assert (await store.update(job.id, priority=4)).tags == ("a",)
    assert (await store.update(job.id, tags=("b", "c"))).priority == 4
    pinned = await store.update(job.id, "ada", pinned=True)
    assert (pinned.priority, pinned.tags, pinned.pinned) == (4, ("b", "c"), True)
    assert await store.get(job.id) == pinned


async def test_uploads_are_kept_for_each_owner(store: Store, wall) -> None:
    from safelight.jobs.records import Upload

    upload = Upload("ab" * 32, "ada", "image/png", 10, 4, 3)
    kept = await store.add_upload(upload)
    assert kept.created_at == wall.seconds
    wall.seconds += 5
    assert (await store.add_upload(upload)).created_at == wall.seconds
    assert await store.upload(upload.id, "ada") == await store.upload(upload.id)
    with pytest.raises(NotFound):
        await store.upload(upload.id, "bob")


async def test_notes(store: Store, reopen) -> None:
    await store.put_note("profile/a", {"n": 1})
    await store.put_note("profile/a", {"n": 2})
    await store.put_note("profile_b", {"n": 3})
    await store.put_note("turns/x", {"ü": [1.5]})
    store = await reopen()
    assert await store.notes("profile/") == {"profile/a": {"n": 2}}
    assert await store.notes("profile") == {"profile/a": {"n": 2}, "profile_b": {"n": 3}}
    assert await store.notes("turns") == {"turns/x": {"ü": [1.5]}}

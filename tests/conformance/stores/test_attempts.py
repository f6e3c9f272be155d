"""Leases, fencing, charges, wishes: the life of an attempt."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.conformance.stores.making import Clock, again, artifact, checkpoint, started, submitted

from safelight.core.events import EventKind
from safelight.core.states import AttemptEnd, JobState
from safelight.errors import Conflict, StaleAttempt
from safelight.jobs.records import ArtifactFilter
from safelight.jobs.store import Store

pytestmark = pytest.mark.anyio

FREE = [
    AttemptEnd.KILLED, AttemptEnd.EXPIRED, AttemptEnd.PREEMPTED, AttemptEnd.SERVER_STOPPED,
    AttemptEnd.DECLINED,
]  # fmt: skip


# ---- leases


async def test_a_lease_lasts_as_long_as_its_heartbeats(store: Store, tick: Clock) -> None:
    job = await started(store, lease_s=10.0)
    tick.seconds += 9
    assert await store.expired() == []
    assert await store.heartbeat("w0", [(job.id, 1)], 10.0) == []
    tick.seconds += 9
    assert await store.expired() == []
    tick.seconds += 1
    assert await store.expired() == [job]


async def test_wall_time_does_not_expire_a_lease(store: Store, wall: Clock) -> None:
    await started(store, lease_s=10.0)
    wall.seconds += 1e6
    assert await store.expired() == []


async def test_heartbeat_names_what_the_worker_must_drop(store: Store, tick: Clock) -> None:
    mine, others, rescued, over = [await started(store, by=worker) for worker in ("w0", "w1", "w0", "w0")]
    await store.release(rescued.id, 1, AttemptEnd.EXPIRED, "")
    await again(store, rescued.id, "w1")
    await store.succeed(over.id, 1, {}, {}, 0)
    invalid = [(others.id, 1), (rescued.id, 1), (over.id, 1), (mine.id, 2), ("nobody", 1)]
    tick.seconds += 9
    assert await store.heartbeat("w0", [(mine.id, 1), *invalid], 10.0) == invalid
    tick.seconds += 5
    assert {job.id for job in await store.expired()} == {others.id, rescued.id}


async def test_leases_of_an_earlier_server_are_void(store: Store, reopen) -> None:
    job = await started(store, lease_s=1e9)
    paused = await submitted(store)
    await store.request_pause(paused.id)
    store = await reopen()
    assert await store.expired() == [job]
    assert await store.heartbeat("w0", [(job.id, 1)], 10.0) == [(job.id, 1)]
    back = await store.release(job.id, 1, AttemptEnd.SERVER_STOPPED, "the server was started anew")
    assert (back.state, back.charged_errors, back.charged_crashes) == (JobState.QUEUED, 0, 0)
    assert await again(store, job.id) == 2
    assert await store.expired() == []


async def test_rescue_brings_the_job_back_with_its_checkpoint(store: Store, tick: Clock) -> None:
    job = await started(store)
    point = checkpoint(job)
    assert await store.set_checkpoint(point) is None
    tick.seconds += 11
    (late,) = await store.expired()
    rescued = await store.release(late.id, late.attempt, AttemptEnd.EXPIRED, "no heartbeat for 11 s")
    assert (rescued.state, rescued.checkpoint) == (JobState.QUEUED, point)
    await again(store, job.id, "w1")
    begun = (await store.events(job.id))[-1]
    assert (begun.kind, begun.data) == (EventKind.STARTED, {"attempt": 2, "worker": "w1", "resumed": True})
    newer = replace(point, attempt=2, step=9)
    assert await store.set_checkpoint(newer) == point
    assert (await store.get(job.id)).checkpoint == newer


# ---- fencing


async def assert_all_refused(store: Store, job, attempt: int) -> None:
    stale = replace(job, attempt=attempt)
    for call in (
        lambda: store.append(job.id, attempt, [(EventKind.STEP, {"step": 1})]),
        lambda: store.add_artifact(artifact(job), attempt),
        lambda: store.set_checkpoint(checkpoint(stale)),
        lambda: store.succeed(job.id, attempt, {}, {}, 0),
        *(lambda end=end: store.release(job.id, attempt, end, "") for end in AttemptEnd if end != "succeeded"),
    ):
        with pytest.raises(StaleAttempt):
            await call()


async def test_stale_attempts_can_say_nothing(store: Store) -> None:
    job = await started(store)
    await assert_all_refused(store, job, 2)
    await store.release(job.id, 1, AttemptEnd.EXPIRED, "")
    await assert_all_refused(store, job, 1)
    await again(store, job.id)
    before = (await store.get(job.id), await store.events(job.id))
    await assert_all_refused(store, job, 1)
    assert (await store.get(job.id), await store.events(job.id)) == before
    await store.succeed(job.id, 2, {}, {}, 0)
    await assert_all_refused(store, job, 2)


# ---- charges


async def test_the_last_chance_begins_without_a_checkpoint_that_led_nowhere(store: Store) -> None:
    job = await started(store)
    await store.set_checkpoint(checkpoint(job))
    await store.release(job.id, 1, AttemptEnd.ERROR, "bad 1")
    await again(store, job.id)
    back = await store.release(job.id, 2, AttemptEnd.ERROR, "bad 2")
    assert back.checkpoint is None and (await store.get(job.id)).checkpoint is None
    assert "begins anew" in (await store.events(job.id))[-1].data["message"]


async def test_a_checkpoint_of_the_attempt_that_failed_itself_is_kept(store: Store) -> None:
    job = await started(store)
    await store.release(job.id, 1, AttemptEnd.ERROR, "bad 1")
    await again(store, job.id)
    mine = replace(checkpoint(job), attempt=2)
    await store.set_checkpoint(mine)
    back = await store.release(job.id, 2, AttemptEnd.ERROR, "bad 2")
    assert back.checkpoint == mine


async def test_three_errors_fail_a_job(store: Store) -> None:
    job = await started(store)
    for attempt in (1, 2):
        back = await store.release(job.id, attempt, AttemptEnd.ERROR, f"bad {attempt}", kind="nan", trace="t")
        assert (back.state, back.charged_errors) == (JobState.QUEUED, attempt)
        said = (await store.events(job.id))[-1]
        assert said.data == {"attempt": attempt, "end": "error", "message": f"bad {attempt}"}
        assert said.kind is EventKind.RETRY
        await again(store, job.id)
    failed = await store.release(job.id, 3, AttemptEnd.ERROR, "bad 3", kind="nan", hint="h", trace="t")
    assert (failed.state, failed.checkpoint) == (JobState.FAILED, None)
    assert failed.failure == {"kind": "nan", "message": "bad 3", "hint": "h", "trace": "t"}
    assert [(each.number, each.end, each.message) for each in failed.attempts] == [
        (1, AttemptEnd.ERROR, "bad 1"), (2, AttemptEnd.ERROR, "bad 2"), (3, AttemptEnd.ERROR, "bad 3"),
    ]  # fmt: skip
    assert await store.get(job.id) == failed
    assert (await store.events(job.id))[-1].kind is EventKind.FAILED


async def test_two_crashes_alone_are_poison(store: Store) -> None:
    job = await started(store)
    back = await store.release(job.id, 1, AttemptEnd.CRASHED, "SIGSEGV")
    assert (back.state, back.charged_crashes, back.alone) == (JobState.QUEUED, 1, True)
    await again(store, job.id)
    failed = await store.release(job.id, 2, AttemptEnd.CRASHED, "SIGSEGV")
    assert failed.state is JobState.FAILED
    assert failed.failure is not None
    assert failed.failure["kind"] == "poison"
    assert "SIGSEGV" in failed.failure["message"]


@pytest.mark.parametrize("end", FREE)
async def test_bad_luck_is_free_however_often(store: Store, end: AttemptEnd) -> None:
    job = await started(store)
    for attempt in range(1, 6):
        back = await store.release(job.id, attempt, end, "")
        assert (back.state, back.charged_errors, back.charged_crashes) == (JobState.QUEUED, 0, 0)
        assert not back.alone
        assert await again(store, job.id) == attempt + 1


async def test_a_suspect_is_alone_until_its_next_checkpoint(store: Store) -> None:
    suspects = [await started(store) for _ in range(3)]
    for job in suspects:
        assert (await store.release(job.id, 1, AttemptEnd.SUSPECT, "SIGSEGV with 3 open")).alone
        assert (await store.claim(job.id, "w1", 10.0)).alone  # type: ignore[union-attr]
    await store.set_checkpoint(checkpoint(await store.get(suspects[0].id)))
    assert [(await store.get(job.id)).alone for job in suspects] == [False, True, True]
    assert (await store.release(suspects[0].id, 2, AttemptEnd.KILLED, "", alone=True)).alone


async def test_a_suspect_that_only_leaves_where_it_began_stays_alone(store: Store) -> None:
    job = await started(store)
    point = checkpoint(await store.get(job.id))
    await store.set_checkpoint(point)
    await store.release(job.id, 1, AttemptEnd.SUSPECT, "SIGSEGV with 3 open")
    await again(store, job.id)
    await store.set_checkpoint(replace(point, attempt=2))
    assert (await store.get(job.id)).alone
    await store.set_checkpoint(replace(point, attempt=2, step=point.step + 1))
    assert not (await store.get(job.id)).alone


async def test_a_suspect_that_fells_three_workers_alone_is_poison(store: Store) -> None:
    job = await started(store)
    for attempt in (1, 2, 3):
        back = await store.release(job.id, attempt, AttemptEnd.SUSPECT, "It hung.")
        assert (back.state, back.alone, back.charged_errors, back.charged_crashes) == (JobState.QUEUED, True, 0, 0)
        await again(store, job.id)
    failed = await store.release(job.id, 4, AttemptEnd.SUSPECT, "It hung.", kind="worker_gone")
    assert failed.state is JobState.FAILED and failed.failure is not None
    assert failed.failure["kind"] == "poison"
    assert failed.failure["message"] == ("3 workers hung or died while this job was their only one. The last: It hung.")
    assert "jobs.hang_s" in failed.failure["hint"]


async def test_bad_luck_between_does_not_clear_a_suspect_and_a_checkpoint_does(store: Store) -> None:
    job = await started(store)
    for attempt, end in enumerate([AttemptEnd.SUSPECT, AttemptEnd.KILLED, AttemptEnd.SUSPECT, AttemptEnd.SUSPECT], 1):
        assert (await store.release(job.id, attempt, end, "")).state is JobState.QUEUED
        await again(store, job.id)
    await store.set_checkpoint(checkpoint(await store.get(job.id)))
    for attempt in (5, 6, 7):
        assert (await store.release(job.id, attempt, AttemptEnd.SUSPECT, "")).state is JobState.QUEUED
        await again(store, job.id)
    assert (await store.release(job.id, 8, AttemptEnd.SUSPECT, "")).state is JobState.FAILED


async def test_errors_and_crashes_are_counted_apart(store: Store) -> None:
    job = await started(store)
    for attempt, end in enumerate([AttemptEnd.ERROR, AttemptEnd.CRASHED, AttemptEnd.ERROR], 1):
        assert (await store.release(job.id, attempt, end, "")).state is JobState.QUEUED
        await again(store, job.id)
    assert (await store.release(job.id, 4, AttemptEnd.ERROR, "")).state is JobState.FAILED


async def test_a_refused_job_is_not_tried_again(store: Store) -> None:
    job = await started(store)
    failed = await store.release(job.id, 1, AttemptEnd.REFUSED, "no such node", kind="invalid_request")
    assert (failed.state, failed.charged_errors) == (JobState.FAILED, 0)


async def test_an_attempt_that_succeeded_is_not_released(store: Store) -> None:
    job = await started(store)
    with pytest.raises(ValueError, match="succeed"):
        await store.release(job.id, 1, AttemptEnd.SUCCEEDED, "")
    assert await store.get(job.id) == job


# ---- success


async def test_success(store: Store, wall: Clock, reopen) -> None:
    job = await started(store)
    await store.set_checkpoint(checkpoint(job))
    wall.seconds += 30
    done = await store.succeed(job.id, 1, {"text": "ü"}, {"denoise": 1.5}, 2**33)
    assert (done.state, done.result, done.timings, done.peak_bytes) == (
        JobState.SUCCEEDED, {"text": "ü"}, {"denoise": 1.5}, 2**33,
    )  # fmt: skip
    assert (done.checkpoint, done.ended_at, done.attempts[0].end) == (None, wall.seconds, AttemptEnd.SUCCEEDED)
    last = (await store.events(job.id))[-1]
    assert (last.kind, last.data) == (
        EventKind.SUCCEEDED, {"result": {"text": "ü"}, "timings": {"denoise": 1.5}},
    )  # fmt: skip
    assert await (await reopen()).get(job.id) == done


async def test_an_artifact_is_kept_once_for_its_place(store: Store) -> None:
    job = await started(store)
    first, event = await store.add_artifact(artifact(job, 0), 1)
    assert event is not None
    assert event.data["url"] == f"/v1/artifacts/{first.id}"
    assert event.data["seed"] == 2**64 - 1
    await store.release(job.id, 1, AttemptEnd.KILLED, "")
    await again(store, job.id)
    answers = await asyncio.gather(*(store.add_artifact(artifact(job, n % 2), 2) for n in range(16)))
    assert sum(event is not None for _, event in answers) == 1
    assert answers[0] == (first, None)
    kept = (await store.get(job.id)).artifacts
    assert [each.index for each in kept] == [0, 1]
    assert kept[0] == first == await store.artifact(first.id, "ada")
    assert [event.kind for event in await store.events(job.id)].count(EventKind.ARTIFACT) == 2


async def test_pages_of_artifacts(store: Store) -> None:
    job, foreign = await started(store), await started(store, owner="bob")
    await store.add_artifact(artifact(foreign), 1)
    mine = [(await store.add_artifact(artifact(job, n), 1))[0] for n in range(5)]
    first = await store.artifacts(ArtifactFilter("ada", limit=2))
    rest = await store.artifacts(ArtifactFilter("ada", before=first[-1].id))
    assert first + rest == mine[::-1]
    assert len(await store.artifacts(ArtifactFilter())) == 6


# ---- wishes


async def test_a_wish_waits_for_the_attempt_and_wins_over_the_queue(store: Store) -> None:
    to_cancel, to_pause = await started(store), await started(store)
    assert (await store.request_cancel(to_cancel.id)).cancel_requested
    assert (await store.request_pause(to_pause.id)).pause_requested
    assert {job.state for job in await store.running()} == {JobState.RUNNING}
    cancelled = await store.release(to_cancel.id, 1, AttemptEnd.KILLED, "")
    assert (cancelled.state, cancelled.cancel_requested) == (JobState.CANCELLED, False)
    paused = await store.release(to_pause.id, 1, AttemptEnd.PREEMPTED, "")
    assert (paused.state, paused.pause_requested) == (JobState.PAUSED, False)
    assert (await store.events(cancelled.id))[-1].kind is EventKind.CANCELLED
    assert (await store.events(paused.id))[-1].kind is EventKind.PAUSED


async def test_what_the_worker_carried_out(store: Store) -> None:
    one, two, three = [await started(store) for _ in range(3)]
    await store.request_pause(one.id)
    assert (await store.release(one.id, 1, AttemptEnd.PAUSED, "")).state is JobState.PAUSED
    assert (await store.release(two.id, 1, AttemptEnd.CANCELLED, "")).state is JobState.CANCELLED
    await store.request_pause(three.id)
    await store.request_cancel(three.id)
    assert (await store.release(three.id, 1, AttemptEnd.PAUSED, "")).state is JobState.CANCELLED


async def test_a_pause_withdrawn_in_time_pauses_nothing(store: Store) -> None:
    job = await started(store)
    await store.request_pause(job.id)
    assert not (await store.resume(job.id)).pause_requested
    assert (await store.release(job.id, 1, AttemptEnd.PAUSED, "")).state is JobState.QUEUED


async def test_a_paused_job_keeps_its_checkpoint(store: Store) -> None:
    job = await started(store)
    await store.set_checkpoint(checkpoint(job))
    await store.request_pause(job.id)
    await store.release(job.id, 1, AttemptEnd.PAUSED, "")
    assert (await store.resume(job.id)).checkpoint == checkpoint(job)


async def test_a_failure_wins_over_a_wish(store: Store) -> None:
    job = await started(store)
    await store.request_pause(job.id)
    assert (await store.release(job.id, 1, AttemptEnd.REFUSED, "bad")).state is JobState.FAILED


async def test_wishes_that_race_with_the_finish_leave_one_end(store: Store) -> None:
    """Whichever comes first: the job ends once, as succeeded, and no wish is left or answered with a lie."""
    for n in range(20):
        job = await started(store, id=f"race{n}")
        finish = store.succeed(job.id, 1, {}, {}, 0)
        wish = store.request_cancel(job.id) if n % 2 else store.request_pause(job.id)
        calls = (finish, wish) if n % 4 < 2 else (wish, finish)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        after = await store.get(job.id)
        assert after.state is JobState.SUCCEEDED
        assert not after.cancel_requested
        assert not after.pause_requested
        assert all(isinstance(each, Conflict) for each in answers if isinstance(each, BaseException))
        kinds = [event.kind for event in await store.events(job.id)]
        assert kinds == [EventKind.QUEUED, EventKind.STARTED, EventKind.SUCCEEDED]

"""The dispatcher by tables: a line of jobs, the workers, and what must be decided."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.core.states import JobState
from safelight.jobs.dispatcher import (
    PASSED_OVER_LIMIT,
    AssignTo,
    Decision,
    OpenJob,
    PassOver,
    Preempt,
    Refuse,
    WorkerView,
    assign,
)
from safelight.jobs.records import Attempt, Job

GB = 2**30


def job(job_id: str, **fields) -> Job:
    given = {"owner": "ada", "operation": "image.generate", "state": JobState.QUEUED, "request": {}, "resolved": {}}
    return Job(id=job_id, **{**given, "priority": 0, "tags": (), "created_at": 0.0, "model_key": "sd15", **fields})


def worker(worker_id: str = "w0", **fields) -> WorkerView:
    return WorkerView(**{"id": worker_id, "device": "cuda:0", "bytes": 10 * GB, "max_open": 4, **fields})


def opened(job_id: str, priority: int = 0, **fields) -> OpenJob:
    return OpenJob(**{"job_id": job_id, "attempt": 1, "model_key": "sd15", "priority": priority, **fields})


def running(opened_job: OpenJob, begun: float = 0.0, **fields) -> Job:
    attempts = (Attempt(opened_job.attempt, "w0", begun),)
    return job(opened_job.job_id, state=JobState.RUNNING, priority=opened_job.priority, attempts=attempts, **fields)


def decide(queued, workers, running=(), now=0.0, steady=None) -> list[Decision]:
    return assign(queued, running, workers, now, now if steady is None else steady)


# ---- who gets what


def test_nothing_to_do() -> None:
    assert decide([], [worker()]) == []
    assert decide([job("a")], []) == []
    assert decide([job("a")], [worker(ready=False)]) == []


def test_priority_goes_before_the_order_of_the_line_which_is_kept() -> None:
    line = [job("a"), job("b", priority=-1), job("c", priority=5), job("d")]
    assert decide(line, [worker()]) == [AssignTo(each, "w0") for each in ("c", "a", "d", "b")]


def test_a_worker_takes_no_more_than_it_opens() -> None:
    assert decide([job("a"), job("b"), job("c")], [worker(max_open=2)]) == [AssignTo("a", "w0"), AssignTo("b", "w0")]


def test_not_before() -> None:
    line = [job("a", not_before=5.0)]
    assert decide(line, [worker()], now=4.9) == []
    assert decide(line, [worker()], now=5.0) == [AssignTo("a", "w0")]


@pytest.mark.parametrize(
    ("workers", "chosen"),
    [
        ([worker("w0"), worker("w1", holds=frozenset({"sd15"}))], "w1"),
        ([worker("w0"), worker("w1", holds=frozenset({"sd15"}), open=(opened("x"),))], "w1"),
        ([worker("w0"), worker("w1", holds=frozenset({"sd15"}), ready=False)], "w0"),
        ([worker("w0"), worker("w1", holds=frozenset({"sd15"}), open=(opened("x"),), max_open=1)], "w0"),
        ([worker("w0", open=(opened("x"),)), worker("w1")], "w1"),
        ([worker("w0"), worker("w1", bytes=11 * GB)], "w1"),
        ([worker("w1"), worker("w0")], "w0"),
    ],
    ids=["holds", "holds-and-busy", "holds-not-ready", "holds-but-full", "fewest-open", "most-room", "by-id"],
)
def test_the_best_worker(workers: list[WorkerView], chosen: str) -> None:
    assert decide([job("a")], workers) == [AssignTo("a", chosen)]


def test_jobs_of_one_model_gather_on_one_worker() -> None:
    line = [job("a"), job("b", model_key="flux"), job("c"), job("d", model_key="flux")]
    assert decide(line, [worker("w0"), worker("w1")]) == [
        AssignTo("a", "w0"), AssignTo("b", "w1"), AssignTo("c", "w0"), AssignTo("d", "w1"),
    ]  # fmt: skip


# ---- room


def test_a_small_job_overtakes_a_large_one_that_would_not_fit_and_it_is_counted() -> None:
    line = [job("large", bytes_needed=20 * GB), job("small", bytes_needed=GB), job("small2", bytes_needed=GB)]
    assert decide(line, [worker(open=(opened("x"),))]) == [
        AssignTo("small", "w0"), AssignTo("small2", "w0"), PassOver(("large",)),
    ]  # fmt: skip


def test_nobody_is_passed_over_where_nothing_goes() -> None:
    assert decide([job("a"), job("b")], [worker(max_open=1, open=(opened("x"),))]) == []


def test_what_is_given_away_is_not_there_any_more() -> None:
    line = [job("a", bytes_needed=6 * GB), job("b", bytes_needed=6 * GB, model_key="flux")]
    assert decide(line, [worker(open=(opened("x", model_key="other"),))]) == [AssignTo("a", "w0")]


SDXL = {"model_key": "sdxl", "weights": 7 * GB}
TWO_SDXL = [job(name, model_key="sdxl", bytes_needed=8 * GB, weights_bytes=7 * GB) for name in "ab"]


@pytest.mark.parametrize(
    ("line", "view", "given"),
    [
        (TWO_SDXL[:1], worker(bytes=11 * GB, open=(opened("x", work=GB, **SDXL),)), ["a"]),
        (TWO_SDXL, worker(bytes=11 * GB, open=(opened("x", work=GB, **SDXL),)), ["a", "b"]),
        (TWO_SDXL, worker(bytes=9 * GB, open=(opened("x", work=GB, **SDXL),)), ["a"]),
        (TWO_SDXL, worker(bytes=11 * GB), ["a", "b"]),
        (TWO_SDXL, worker(bytes=11 * GB, holds=frozenset({"sdxl"})), ["a", "b"]),
        (TWO_SDXL, worker(bytes=11 * GB, open=(opened("x", weights=4 * GB),)), []),
        (TWO_SDXL, worker(bytes=13 * GB, open=(opened("x", weights=4 * GB),)), ["a", "b"]),
        (TWO_SDXL, worker(bytes=12 * GB, holds=frozenset({"sd15"}), open=(opened("x", weights=4 * GB),)), ["a"]),
    ],
    ids=["second", "third", "work-fills-it", "both-new", "idle-weights", "two-models", "two-models-fit", "just-one"],
)
def test_the_weights_of_a_model_count_once_however_many_jobs_use_them(line, view, given) -> None:
    placed = [each.job_id for each in decide(line, [view]) if isinstance(each, AssignTo)]
    assert placed == given


def test_weights_make_room_when_the_last_job_that_uses_them_leaves() -> None:
    low = [opened(name, -1, work=GB, **SDXL) for name in "xy"]
    full = worker(bytes=11 * GB, open=tuple(low))
    (high,) = [job("h", model_key="flux", bytes_needed=8 * GB, weights_bytes=7 * GB, priority=1)]
    assert decide([high], [full]) == [Preempt("x", 1, "w0", "h"), Preempt("y", 1, "w0", "h")]


def test_an_empty_worker_takes_even_what_is_too_large() -> None:
    assert decide([job("a", bytes_needed=99 * GB)], [worker()]) == [AssignTo("a", "w0")]


def test_one_passed_over_too_often_goes_first_and_keeps_a_worker_free() -> None:
    large = job("large", bytes_needed=20 * GB, passed_over=PASSED_OVER_LIMIT)
    line = [job("small", priority=3), large]
    busy = [worker("w0", open=(opened("x"),)), worker("w1", open=(opened("y"), opened("z")))]
    assert decide(line, busy) == [AssignTo("small", "w1"), PassOver(("large",))]
    assert decide(line, [worker("w0"), busy[1]]) == [AssignTo("large", "w0"), AssignTo("small", "w1")]
    assert decide([replace(large, passed_over=PASSED_OVER_LIMIT - 1), line[0]], busy)[0] == AssignTo("small", "w0")


def test_a_large_job_is_never_starved_by_a_stream_of_small_ones() -> None:
    """Two workers, four places each; every round one job ends and two small ones arrive."""
    large = job("large", bytes_needed=20 * GB)
    workers = [worker(name, open=tuple(opened(f"{name}{n}", work=GB) for n in range(2))) for name in ("w0", "w1")]
    for number in range(60):
        decisions = decide([large, job(f"s{number}a", bytes_needed=GB), job(f"s{number}b", bytes_needed=GB)], workers)
        if any(isinstance(each, AssignTo) and each.job_id == "large" for each in decisions):
            return
        for each in decisions:
            if isinstance(each, PassOver):
                large = replace(large, passed_over=large.passed_over + 1)
            elif isinstance(each, AssignTo):
                workers = [
                    replace(view, open=(*view.open, opened(each.job_id, work=GB))) if view.id == each.worker else view
                    for view in workers
                ]
        turn = number % 2
        workers[turn] = replace(workers[turn], open=workers[turn].open[1:])
    pytest.fail("the large job never ran")


# ---- alone


def test_a_suspect_waits_for_an_empty_worker_and_nobody_joins_it() -> None:
    suspect = job("s", alone=True)
    assert decide([suspect], [worker(open=(opened("x"),))]) == []
    assert decide([suspect, job("a")], [worker()]) == [AssignTo("s", "w0")]
    assert decide([job("a")], [worker(open=(opened("s", alone=True),))]) == []
    assert decide([suspect, job("a")], [worker("w0"), worker("w1")]) == [AssignTo("s", "w0"), AssignTo("a", "w1")]


# ---- pinned


def test_a_pinned_job_goes_to_its_worker_or_device_only() -> None:
    two = [worker("w0"), worker("w1", device="cuda:1")]
    assert decide([job("a", worker="w1")], two) == [AssignTo("a", "w1")]
    assert decide([job("a", worker="cuda:1")], two) == [AssignTo("a", "w1")]
    assert decide([job("a", worker="w1"), job("b")], [two[0], replace(two[1], ready=False)]) == [
        AssignTo("b", "w0"), PassOver(("a",)),
    ]  # fmt: skip


def test_a_pin_that_can_never_be_is_refused_with_the_list() -> None:
    (refused,) = decide([job("a", worker="cuda:7")], [worker("w0"), worker("w1", device="cpu")])
    assert isinstance(refused, Refuse)
    assert (refused.job_id, refused.kind) == ("a", "worker_unavailable")
    assert "'cuda:7'" in refused.message
    assert refused.hint == "There are: w0, cuda:0, w1, cpu."


def test_a_job_past_its_deadline_is_refused() -> None:
    line = [job("a", deadline=10.0)]
    assert decide(line, [worker()], now=9.9) == [AssignTo("a", "w0")]
    (refused,) = decide(line, [], now=12.0)
    assert isinstance(refused, Refuse)
    assert (refused.kind, "2 s" in refused.message) == ("deadline", True)


def test_a_deadline_is_none_of_the_wall_clock() -> None:
    line = [job("a", deadline=10.0)]
    assert decide(line, [worker()], now=1e9, steady=9.9) == [AssignTo("a", "w0")]
    (refused,) = decide(line, [worker()], now=0.0, steady=12.0)
    assert isinstance(refused, Refuse) and refused.kind == "deadline"


# ---- pushing out


def test_higher_priority_pushes_out_the_lowest_where_all_is_full() -> None:
    low, mid, same = opened("low", -5), opened("mid", 1), opened("same", 3)
    full = worker(max_open=3, open=(mid, low, same))
    high = job("high", priority=3)
    assert decide([high], [full]) == [Preempt("low", 1, "w0", "high")]
    assert decide([high], [full, worker("w1")]) == [AssignTo("high", "w1")]
    assert decide([job("equal", priority=-5)], [full]) == []


def test_two_push_out_two() -> None:
    full = worker(max_open=2, open=(opened("x", -1), opened("y", -2)))
    assert decide([job("a", priority=1), job("b", priority=1), job("c", priority=1)], [full]) == [
        Preempt("y", 1, "w0", "a"), Preempt("x", 1, "w0", "b"),
    ]  # fmt: skip


def test_among_equals_the_latest_begun_goes() -> None:
    old, young = opened("old"), opened("young")
    full = worker(max_open=2, open=(old, young))
    high = [job("high", priority=1)]
    assert decide(high, [full], [running(old, 5.0), running(young, 9.0)]) == [Preempt("young", 1, "w0", "high")]
    assert decide(high, [full], [running(old, 9.0), running(young, 5.0)]) == [Preempt("old", 1, "w0", "high")]


def test_as_many_go_as_it_takes_and_no_more() -> None:
    videos = tuple(opened(f"v{n}", n, model_key="video", work=4 * GB) for n in range(3))
    full = worker(open=videos, bytes=12 * GB)
    assert decide([job("a", priority=5, bytes_needed=7 * GB)], [full]) == [
        Preempt("v0", 1, "w0", "a"), Preempt("v1", 1, "w0", "a"),
    ]  # fmt: skip
    assert decide([job("a", priority=1, bytes_needed=7 * GB)], [full]) == []


def test_the_worker_with_the_least_important_jobs_is_cleared() -> None:
    workers = [worker("w0", max_open=1, open=(opened("x", 2),)), worker("w1", max_open=1, open=(opened("y", 1),))]
    assert decide([job("a", priority=3)], workers) == [Preempt("y", 1, "w1", "a")]
    assert decide([job("a", priority=3, worker="w0")], workers) == [Preempt("x", 1, "w0", "a")]


def test_who_is_leaving_anyway_spares_the_others() -> None:
    leaving, staying = opened("leaving", 9), opened("staying", -9)
    full = worker(max_open=2, open=(leaving, staying))
    told = [running(leaving, cancel_requested=True), running(staying)]
    assert decide([job("a")], [full], told) == []


def test_a_cleared_worker_takes_nothing_else_meanwhile() -> None:
    full = worker(bytes=10 * GB, open=(opened("x", -1, model_key="video", work=9 * GB),))
    line = [job("a", priority=1, bytes_needed=3 * GB), job("b", bytes_needed=GB // 2)]
    assert decide(line, [full]) == [Preempt("x", 1, "w0", "a")]
    both_low = replace(full, open=(*full.open, opened("y", -1)))
    assert decide([line[0], replace(line[1], priority=1)], [both_low]) == [Preempt("x", 1, "w0", "a")]


def test_what_was_only_just_given_is_not_taken_back_at_once() -> None:
    starved = job("starved", priority=-5, passed_over=PASSED_OVER_LIMIT)
    assert decide([job("high", priority=5), starved], [worker(max_open=1)]) == [AssignTo("starved", "w0")]


# ---- whatever comes

JOBS = st.builds(
    lambda n, priority, gigabytes, alone, passed, pin, model: job(
        f"q{n}", priority=priority, bytes_needed=gigabytes * GB, alone=alone, passed_over=passed, worker=pin,
        model_key=model,
    ),
    st.integers(0, 10**9), st.integers(-2, 2), st.integers(0, 12), st.booleans(), st.integers(0, 9),
    st.sampled_from([None, None, "w0", "cpu", "gone"]), st.sampled_from(["sd15", "flux"]),
)  # fmt: skip
OPEN = st.builds(
    lambda n, priority, alone, gigabytes: opened(f"r{n}", priority, alone=alone, work=gigabytes * GB),
    st.integers(0, 10**9), st.integers(-2, 2), st.booleans(), st.integers(0, 6),
)  # fmt: skip
WORKERS = st.lists(
    st.builds(
        lambda device, open_jobs, free, places, ready: worker(
            "", device=device, open=tuple(open_jobs), bytes=free * GB, max_open=places, ready=ready
        ),
        st.sampled_from(["cuda:0", "cpu"]), st.lists(OPEN, max_size=3), st.integers(0, 12), st.integers(1, 3),
        st.booleans(),
    ),
    max_size=3,
).map(lambda views: [replace(view, id=f"w{n}") for n, view in enumerate(views)])  # fmt: skip


@given(st.lists(JOBS, max_size=8, unique_by=lambda each: each.id), WORKERS)
def test_no_decision_breaks_a_promise(line: list[Job], workers: list[WorkerView]) -> None:
    decisions = decide(line, workers)
    assert decisions == decide(line, workers)
    by_id, views = {each.id: each for each in line}, {view.id: view for view in workers}
    placed = [each for each in decisions if isinstance(each, AssignTo)]
    assert len({each.job_id for each in placed}) == len(placed)
    for view in workers:
        given_here = [by_id[each.job_id] for each in placed if each.worker == view.id]
        if not given_here:
            continue
        assert view.ready
        assert all(each.worker in (None, view.id, view.device) for each in given_here)
        everybody = len(view.open) + len(given_here)
        assert everybody <= max(view.max_open, 1)
        if any(each.alone for each in (*view.open, *given_here)):
            assert everybody == 1
    for each in decisions:
        if isinstance(each, Preempt):
            victim = next(one for one in views[each.worker].open if one.job_id == each.job_id)
            assert victim.priority < by_id[each.by].priority
        elif isinstance(each, PassOver):
            assert not set(each.job_ids) & {one.job_id for one in placed}

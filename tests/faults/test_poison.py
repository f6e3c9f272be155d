"""A job that really kills its workers, hangs them or raises fails alone; those beside it lose nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.acceptance.real_server import RealServer

from .mix import MIN_PSNR, asked, mix, pixels, psnr

Peace = dict[str, list[NDArray[np.uint8]]]
NEIGHBOURS = ("shared", "exact pair", "shared three")


def harming(how: str, at: int = 4, **more: Any) -> dict[str, Any]:
    """A request whose step `at` does harm."""
    return {"steps": 8, "seed": 5, "sampler": "harm", "sampler_options": {"how": how, "at": at}, **more}


def ends(record: dict[str, Any]) -> list[str]:
    return [attempt["end"] for attempt in record["attempts"]]


@pytest.fixture(scope="module")
def peace(server: RealServer) -> Peace:
    """What the neighbours draw when nothing happens."""
    counts = {name: mix()[name].get("batch_size", 1) for name in NEIGHBOURS}
    jobs = {name: server.submit(asked(name, 1)) for name in NEIGHBOURS}
    return {name: [pixels(server.file(job, index)) for index in range(counts[name])] for name, job in jobs.items()}


def run_beside(server: RealServer, body: dict[str, Any], peace: Peace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a harmful job beside three others, all open at once; the records. The others must draw what they draw in
    peace, with nothing missing and nothing doubled."""
    held = server.submit(body, priority=-1)
    jobs = [server.submit(asked(name, 2)) for name in NEIGHBOURS]
    records = [server.finished(job) for job in jobs]
    for name, record in zip(NEIGHBOURS, records, strict=True):
        assert record["state"] == "succeeded", (record, server.log())
        numbers = [event["number"] for event in server.events(record["id"])]
        assert numbers == list(range(1, len(numbers) + 1))
        for artifact, undisturbed in zip(record["artifacts"], peace[name], strict=True):
            drawn = pixels(server.http.get(artifact["url"]).content)
            assert np.array_equal(drawn, undisturbed) if "exact" in name else psnr(drawn, undisturbed) >= MIN_PSNR
    return server.finished(held), records


def told(server: RealServer, job: str) -> list[tuple[str, Any]]:
    """The story of a job's attempts in its events: what began, what ended how."""
    return [
        (event["kind"], event["data"].get("attempt") or event["data"].get("kind"))
        for event in server.events(job)
        if event["kind"] in ("started", "retry", "failed", "succeeded", "cancelled")
    ]


BOOKED_S = 0.25
"""A worker is free for the next job once it has said that it is done with the last; that is written down a little
later, and the attempts seem to overlap for so long at most."""


def company(record: dict[str, Any], others: list[dict[str, Any]], number: int) -> list[Any]:
    """What else was open during the job's attempts from `number` on: pairs of attempts; and those attempts whose worker
    died with company, as the server counted when it died."""
    died = [mine for mine in record["attempts"][number - 1 :] if "jobs were open" in mine["message"]]
    return died + [
        (mine, other)
        for mine in record["attempts"][number - 1 :]
        for each in others
        for other in each["attempts"]
        if other["started_at"] < mine["ended_at"] and mine["started_at"] < other["ended_at"] - BOOKED_S
    ]


@pytest.mark.parametrize(
    ("how", "name"), [("segv", "SIGSEGV"), pytest.param("abort", "SIGABRT", marks=pytest.mark.slow)]
)
def test_a_job_that_crashes_its_worker_is_poison_and_its_neighbours_succeed(
    server: RealServer, peace: Peace, how: str, name: str
) -> None:
    record, others = run_beside(server, harming(how), peace)
    assert ends(record) == ["suspect", "crashed", "crashed"], record["attempts"]
    assert record["state"] == "failed" and record["failure"]["kind"] == "poison"
    assert "2 workers died of this job" in record["failure"]["message"] and name in record["failure"]["message"]
    assert record["failure"]["hint"]
    assert f"ended by {name} while 4 jobs were open" in record["attempts"][0]["message"]
    assert all(name in attempt["message"] for attempt in record["attempts"])
    assert told(server, record["id"]) == [
        ("started", 1), ("retry", 1), ("started", 2), ("retry", 2), ("started", 3), ("failed", "poison"),
    ]  # fmt: skip
    assert company(record, others, 2) == [], "a suspect runs alone"
    assert all(ends(other) == ["suspect", "succeeded"] for other in others), [ends(other) for other in others]
    assert all(one["ended_at"] <= two["started_at"] for one, two in pairwise(record["attempts"]))


def test_a_job_whose_worker_is_killed_five_times_is_charged_nothing(server: RealServer) -> None:
    job = server.submit(steps=30, seed=6)
    for time in range(5):
        server.wait_for_step(job, 4 * (time + 1))
        server.kill_worker()
    record = server.finished(job)
    assert record["state"] == "succeeded" and ends(record) == ["killed"] * 5 + ["succeeded"]
    assert all("SIGKILL" in attempt["message"] for attempt in record["attempts"][:5])
    assert len(server.steps(job)) <= 30 + 2 * 5, "each went on from its checkpoint"


@pytest.mark.slow
def test_a_job_that_hangs_its_worker_is_poison_in_the_end_and_its_neighbours_succeed(
    server: RealServer, peace: Peace
) -> None:
    record, others = run_beside(server, harming("hang"), peace)
    assert ends(record) == ["suspect"] * 4, record["attempts"]
    assert record["failure"]["kind"] == "poison" and "3 workers hung or died" in record["failure"]["message"]
    assert "jobs.hang_s" in record["failure"]["hint"]
    assert all("no piece of work ended within" in attempt["message"] for attempt in record["attempts"])
    assert company(record, others, 2) == []
    assert {end for other in others for end in ends(other)} == {"suspect", "succeeded"}
    assert server.finished(server.submit(steps=2))["state"] == "succeeded"


def test_a_job_that_raises_fails_after_three_and_nobody_else_notices(server: RealServer, peace: Peace) -> None:
    worker = server.worker_pid()
    record, others = run_beside(server, harming("raise"), peace)
    assert ends(record) == ["error"] * 3 and record["failure"]["kind"] == "RuntimeError"
    assert "step 4 cannot be done" in record["failure"]["message"] and "harm_steps" in record["failure"]["trace"]
    assert all(ends(other) == ["succeeded"] for other in others)
    assert server.worker_pid() == worker


def test_a_checkpoint_that_nobody_can_go_on_from_is_given_up_before_the_job_is(server: RealServer) -> None:
    """Two attempts raise where the dead worker stopped; the third begins anew and draws the picture."""
    body = harming("estranged", steps=12, deterministic=True)
    peace = server.file(server.submit(body))
    job = server.submit(body)
    server.wait_for_step(job, 5)
    server.kill_worker()
    record = server.finished(job)
    assert record["state"] == "succeeded", record["failure"]
    assert ends(record) == ["killed", "error", "error", "succeeded"]
    resumed = [event["data"]["resumed"] for event in server.events(job) if event["kind"] == "started"]
    assert resumed == [False, True, True, False]
    retries = [event["data"]["message"] for event in server.events(job) if event["kind"] == "retry"]
    assert "begins anew" in retries[-1] and "begins anew" not in retries[-2]
    assert np.array_equal(pixels(server.file(job)), pixels(peace))

"""Handing out: what cannot be handed out fails in words and hides nobody; who hangs its workers is found out."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec import structs
from tests.unit.server.staging import Actor, Theatre, stage

from safelight.catalog.index import FolderCatalog
from safelight.jobs.memory import MemoryStore
from safelight.jobs.records import NewJob
from safelight.server.app import worker_specs
from safelight.server.services import OWNER
from safelight.workers import messages as m

SMALL = {"width": 64, "height": 64}
DRAW = {"operation": "image.generate", "prompt": "draw", "batch_size": 1, "seed": 1, **SMALL}


def accepted(*jobs: dict) -> MemoryStore:
    """A store with what an earlier server accepted: `jobs` are fields of NewJob."""
    store = MemoryStore()

    async def fill():
        for number, fields in enumerate(jobs):
            usual = {"id": f"j{number}", "owner": OWNER, "operation": "image.generate", "request": {},
                     "resolved": DRAW, "fingerprint": "f"}  # fmt: skip
            await store.submit(NewJob(**{**usual, **fields}))

    asyncio.run(fill())
    return store


def test_a_job_whose_operation_is_gone_fails_and_those_behind_it_run(tmp_path):
    store = accepted({"operation": "image.swatch"}, {})
    with stage(tmp_path, store=store) as here:
        job = here.done("j0")
        assert (job["state"], job["failure"]["kind"]) == ("failed", "operation_unavailable")
        assert "'image.swatch' is not here any more" in job["failure"]["message"]
        assert "extensions.modules" in job["failure"]["hint"]
        assert job["attempts"] == [], "it was never claimed"
        assert here.done("j1")["state"] == "succeeded"


@pytest.mark.parametrize("resolved", [{**DRAW, "seed": 2**70}, {**DRAW, "prompt": "x" * (17 << 20)}])
def test_a_job_that_cannot_be_put_into_words_for_a_worker_fails_and_those_behind_it_run(tmp_path, resolved):
    with stage(tmp_path, store=accepted({"resolved": resolved}, {})) as here:
        assert here.done("j1")["state"] == "succeeded"
        job = here.done("j0")
        assert (job["state"], job["failure"]["kind"]) == ("failed", "invalid_request")
        assert [each["end"] for each in job["attempts"]] == ["refused"]
        assert len(here.theatre.actors) == 1, "no worker was ended for it"


def test_jobs_that_may_not_run_hide_nobody_behind_them_and_are_never_read(tmp_path, monkeypatch):
    store = accepted(*[{}] * 450)
    read, waiting = [], store.waiting

    async def counted(*given):
        read.append(await waiting(*given))
        return read[-1]

    monkeypatch.setattr(store, "waiting", counted)
    with stage(tmp_path, store=store, jobs={"take_up": False}) as here:
        assert here.done(here.submit("draw", **SMALL))["state"] == "succeeded"
        assert here.job("j0")["state"] == here.job("j449")["state"] == "queued"
        assert max(len(jobs) for jobs in read) == 1


def test_jobs_of_this_server_run_though_its_wall_clock_is_set_back(tmp_path):
    """What an earlier server left is told by its ids, not by its age: after a jump back everything would be older."""
    back_s = [0.0]
    store = MemoryStore(wall=lambda: time.time() - back_s[0])
    asyncio.run(store.submit(NewJob("left", OWNER, "image.generate", {}, DRAW, "f")))
    with stage(tmp_path, store=store, jobs={"take_up": False}) as here:
        back_s[0] = 40 * 86_400.0
        job = here.done(here.submit("draw", **SMALL))
        assert job["state"] == "succeeded" and job["created_at"] < time.time() - 39 * 86_400
        assert here.job("left")["state"] == "queued"
        assert 0 <= here.http.get("/v1/system").json()["uptime_s"] < 600


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
def test_a_deadline_is_so_many_seconds_from_its_submission_whatever_the_wall_clock_does(tmp_path, monkeypatch, jump_s):
    real, ahead_s = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s[0])
    with stage(tmp_path, store=MemoryStore(wall=time.time), jobs={"max_open": 1}) as here:
        busy = here.submit("wait", **SMALL)
        here.until(busy, "running")
        patient, short = (here.submit("draw", **SMALL, deadline_s=seconds) for seconds in (3600, 2))
        ahead_s[0] = jump_s
        late = here.done(short)
        assert (late["state"], late["failure"]["kind"]) == ("failed", "deadline")
        assert here.job(patient)["state"] == "queued", "not late, though a day seems to have gone by"
        here.http.post(f"/v1/jobs/{busy}/cancel")
        assert here.done(patient)["state"] == "succeeded"


class Second(Actor):
    """Of two workers the second holds the demo model; what is done by hand succeeds at once."""

    async def beat(self) -> None:
        key = FolderCatalog().model(None).ref.key
        while True:
            holds = [key] if self.spec.id == "worker-2" else []
            self.channel.send(m.Heartbeat(open=list(self.open), holds=holds, bytes_free=64 << 30, bytes_held=0, rss=5,
                                          last_pass_s=0.0, pass_s=0.0))  # fmt: skip
            await asyncio.sleep(self.spec.heartbeat_s)

    async def play(self, order) -> None:
        self.succeed({"job": order.job, "attempt": order.attempt})


def test_a_model_is_let_go_of_by_who_is_named_else_by_who_holds_it(tmp_path, monkeypatch):
    def two(settings):
        return [structs.replace(each, id=f"worker-{number}") for each in worker_specs(settings) for number in (1, 2)]

    monkeypatch.setattr("safelight.server.app.worker_specs", two)
    with stage(tmp_path, theatre=Theatre(Second)) as here:
        until = time.monotonic() + 20
        while [len(each["holds"]) for each in here.http.get("/v1/system").json()["workers"]] != [0, 1]:
            assert time.monotonic() < until
            time.sleep(0.02)
        for named, worker in (({}, "worker-2"), ({"device": "worker-1"}, "worker-1")):
            body = {"operation": "model.unload", "model": "postcards", **named}
            job = here.done(here.http.post("/v1/jobs", json=body).json()["id"])
            assert [each["worker"] for each in job["attempts"]] == [worker]
        wrong = here.http.post("/v1/jobs", json={"operation": "model.unload", "device": "cuda:7"}).json()["errors"]
        assert [each["path"] for each in wrong] == ["device"]


class Stuck(Actor):
    """Says of the job `wait` that no piece of it has ended for long."""

    async def beat(self) -> None:
        while True:
            self.channel.send(
                m.Heartbeat(open=list(self.open), holds=[], bytes_free=64 << 30, bytes_held=0, rss=5,
                            last_pass_s=99.0 if self.open else 0.0, pass_s=0.0)
            )  # fmt: skip
            await asyncio.sleep(self.spec.heartbeat_s)


def test_a_job_that_hangs_every_worker_is_poison(tmp_path):
    with stage(tmp_path, theatre=Theatre(Stuck), jobs={"hang_s": 90.0}) as here:
        job = here.until(here.submit("wait", **SMALL), "failed", within_s=120)
        assert [each["end"] for each in job["attempts"]] == ["suspect"] * 4
        assert job["failure"]["kind"] == "poison" and "more than 90.0 s" in job["failure"]["message"]

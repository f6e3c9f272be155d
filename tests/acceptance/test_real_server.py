"""The promises of a running server, kept by real processes on the bundled model."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .real_server import RealServer

STEADY: dict[str, Any] = {"steps": 24, "seed": 11, "deterministic": True, "sampler": "euler_ancestral"}
"""A deterministic job that lasts long enough to be disturbed."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with RealServer(tmp_path_factory.mktemp("server") / "home") as running:
        running.worker_pid()
        yield running


@pytest.fixture(scope="module")
def undisturbed(server: RealServer) -> bytes:
    """The pixels of STEADY, drawn in peace."""
    return pixels(server.file(server.submit(STEADY)))


def pixels(file: bytes) -> bytes:
    """The picture's own bytes: a file's metadata also says the model's SHA-256 once that is known."""
    return Image.open(io.BytesIO(file)).tobytes()


def whole(server: RealServer, job_id: str) -> None:
    """No event of the job is missing or doubled, and it has one artifact a picture."""
    events = server.events(job_id)
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["kind"] == "succeeded"
    assert len(server.job(job_id)["artifacts"]) == server.job(job_id)["resolved"]["batch_size"]


def test_killed_workers_cost_nothing_but_time(server: RealServer, undisturbed: bytes) -> None:
    jobs = [server.submit(STEADY), server.submit(steps=16, batch_size=2), server.submit(steps=12, sampler="heun")]
    server.wait_for_step(jobs[0], 5)
    killed = server.kill_worker()
    records = [server.finished(job) for job in jobs]
    assert [record["state"] for record in records] == ["succeeded"] * 3, (records, server.log())
    assert pixels(server.file(jobs[0])) == undisturbed
    assert server.worker_pid() != killed
    assert len(records[0]["attempts"]) == 2
    assert len(server.steps(jobs[0])) <= 24 + 2, "the second attempt went on from a checkpoint"
    assert records[0]["peak_bytes"] > 2**20
    for job in jobs:
        whole(server, job)


def test_a_killed_server_loses_no_accepted_job(tmp_path: Path, undisturbed: bytes) -> None:
    server = RealServer(tmp_path / "home")
    server.start()
    try:
        jobs = [server.submit(STEADY), server.submit(steps=10), server.submit(steps=10, seed=2)]
        server.wait_for_step(jobs[0], 5)
        later = [server.submit(steps=2, seed=seed) for seed in range(3)]
        server.kill()
        server.start()
        for job in [*jobs, *later]:
            assert server.finished(job)["state"] == "succeeded", server.log()
            whole(server, job)
        assert pixels(server.file(jobs[0])) == undisturbed
    finally:
        assert server.stop() == 0


def test_a_stopped_server_hands_its_jobs_to_the_next(tmp_path: Path, undisturbed: bytes) -> None:
    server = RealServer(tmp_path / "home")
    server.start()
    job = server.submit(STEADY)
    server.wait_for_step(job, 5)
    assert server.stop() == 0, server.log()
    server.start()
    try:
        assert pixels(server.file(job)) == undisturbed
        assert server.steps(job) == list(range(1, 25)), "no step was done twice"
        assert server.job(job)["attempts"][0]["end"] == "server_stopped"
    finally:
        assert server.stop() == 0


def test_a_cancelled_job_stops_within_one_step(server: RealServer) -> None:
    job = server.submit(steps=150)
    server.wait_for_step(job, 3)
    assert server.http.post(f"/v1/jobs/{job}/cancel").status_code in (200, 202)
    asked_at = time.time()
    record = server.finished(job)
    assert record["state"] == "cancelled" and record["artifacts"] == []
    after = [event for event in server.events(job) if event["kind"] == "step" and event["at"] > asked_at]
    assert len(after) <= 1


def test_a_higher_priority_overtakes(tmp_path: Path) -> None:
    with RealServer(tmp_path / "home", **{"jobs.max_open": 1}) as server:
        first = server.submit(steps=12)
        server.wait_for_step(first, 1)
        low = [server.submit(steps=2, seed=seed) for seed in range(2)]
        high = server.submit(steps=2, seed=9, priority=5)
        for job in (first, *low, high):
            assert server.finished(job)["state"] == "succeeded", server.log()
        assert server.job(high)["ended_at"] < min(server.job(job)["ended_at"] for job in low)
        assert server.job(high)["ended_at"] < server.job(first)["ended_at"], "it even pre-empts"


def test_the_same_idempotency_key_is_one_job(server: RealServer) -> None:
    body = {"operation": "image.generate", "prompt": "a tent", "width": 64, "height": 64, "steps": 1}
    key = {"Idempotency-Key": f"key-{time.time()}"}
    first, again = (server.http.post("/v1/jobs", json=body, headers=key) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    other = server.http.post("/v1/jobs", json={**body, "steps": 2}, headers=key)
    assert other.status_code == 409


def png(image: Image.Image) -> str:
    written = io.BytesIO()
    image.save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


BROKEN_PNG = base64.b64encode(base64.b64decode(png(Image.new("RGB", (64, 64), "red")))[:-30]).decode()
HUGE_PNG = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x3a\x98\x00\x00\x3a\x98\x08\x02\x00\x00\x00" + b"\x00" * 64
).decode()


@pytest.mark.parametrize(
    ("body", "path", "said"),
    [
        ({"prompt": ""}, "prompt", "empty"),
        ({"width": 513}, "width", "multiple of 8"),
        ({"steps": 0}, "steps", "1"),
        ({"sampler": "dpmpp_2n"}, "sampler", "dpmpp_2m"),
        ({"model": "postcard"}, "model", "postcards"),
        ({"model": "truncated"}, "model", "truncated"),
        ({"model": "pickled"}, "model", "safetensors"),
        ({"stepps": 3}, "stepps", "steps"),
        ({"operation": "image.transform", "image": BROKEN_PNG}, "image", ""),
        ({"operation": "image.transform", "image": HUGE_PNG}, "image", ""),
        ({"operation": "image.transform", "image": "no such id"}, "image", ""),
    ],
)
def test_bad_input_costs_its_own_request_only(server: RealServer, body: dict[str, Any], path: str, said: str) -> None:
    models = server.home / "models"
    models.mkdir(exist_ok=True)
    (models / "truncated.safetensors").write_bytes(b"\xff\x00\x00\x00\x00\x00\x00\x00{")
    (models / "pickled.ckpt").write_bytes(b"PK\x03\x04" + b"\x00" * 100)
    answer = server.http.post("/v1/jobs", json={"operation": "image.generate", "prompt": "a house", **body})
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert any(error["path"] == path for error in problem["errors"]), problem
    words = str(problem)
    assert said in words
    assert all(error["message"] for error in problem["errors"]) and any(error["hint"] for error in problem["errors"])
    assert server.http.get("/health").status_code == 200


def test_pictures_go_in_and_come_out(server: RealServer) -> None:
    """Transform and inpaint with base64 in, and what the server drew by its artifact's id."""
    drawn = server.finished(server.submit(steps=2))
    image = drawn["artifacts"][0]["id"]
    again = server.submit({"operation": "image.transform", "image": image, "steps": 4, "strength": 0.5})
    assert Image.open(io.BytesIO(server.file(again))).size == (64, 64)
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    painted = server.submit(
        {"operation": "image.inpaint", "image": image, "mask": png(mask), "mask_blur": 2, "steps": 4, "strength": 1.0}
    )
    before = np.asarray(Image.open(io.BytesIO(server.http.get(drawn["artifacts"][0]["url"]).content)), dtype=int)
    after = np.asarray(Image.open(io.BytesIO(server.file(painted))), dtype=int)
    outside = np.ones((64, 64), dtype=bool)
    outside[10:54, 10:54] = False
    assert np.abs(after - before)[outside].max() <= 2
    resolved = server.job(painted)["resolved"]
    assert "base64" not in str(resolved) and resolved["mask"]["sha256"]

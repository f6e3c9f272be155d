"""A deterministic picture has one plan, kept with its job: the same bytes, or a refusal that names what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from safelight.artifacts import MADE, read_metadata

from .real_server import RealServer
from .studio import Studio

SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 4, "sampler": "euler_ancestral", "deterministic": True}


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that each pass ran with."""
    from safelight.engine.families.sd.network import UNetNetwork

    real, seen = UNetNetwork.denoise, []

    def watched(*given: Any) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return real(*given)

    monkeypatch.setattr(UNetNetwork, "denoise", watched)
    return seen


def test_a_later_attempt_takes_up_the_threads_of_the_first(tmp_path: Path, threads: None, seen: list[int]) -> None:
    torch.set_num_threads(2)
    first = Studio(tmp_path / "first", checkpoint_interval_s=0.0)
    undisturbed = first.draw("job", **SMALL)
    plan = first.told.plans["job"]
    assert plan["threads"] == 2 and set(seen) == {2}
    resolved = first.resolve(**SMALL)
    first.submit("cut", resolved)
    while first.steps("cut") < 2:
        first.loop.turn()
    first.loop.pause("cut", 1, "paused")
    first.loop.turn()
    checkpoint = first.told.checkpoints["cut", 1][-1]

    seen.clear()
    torch.set_num_threads(1)
    other = Studio(tmp_path / "other")
    assert other.loop.plan["threads"] == 1
    other.submit("cut", resolved, attempt=2, checkpoint=checkpoint, plan=plan)
    other.finish()
    assert seen == [2, 2] and torch.get_num_threads() == 1
    assert other.pixels("cut", attempt=2).tobytes() == undisturbed.tobytes()
    assert "cut" not in other.told.plans, "the plan is told once, by the attempt that made it"
    other.submit("shared", other.resolve(**{**SMALL, "deterministic": False}))
    other.finish()
    assert set(seen[2:]) == {1}, "others compute as the worker does"


def test_a_plan_that_cannot_be_taken_up_is_declined_and_nothing_is_drawn(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.submit("job", studio.resolve(**SMALL), attempt=2, plan={**studio.loop.plan, "dtype": "bf16"})
    studio.finish()
    end, said = studio.told.ends["job", 2]
    assert end == "declined" and "dtype was bf16, here it is fp32" in said["message"]
    assert studio.told.passes == []


@pytest.mark.parametrize(("deterministic", "passes"), [(True, "own"), (False, "shared")])
def test_the_file_tells_the_plan_the_mode_and_the_width(tmp_path: Path, deterministic: bool, passes: str) -> None:
    studio = Studio(tmp_path)
    studio.submit("job", studio.resolve(**{**SMALL, "deterministic": deterministic, "batch_size": 2}))
    studio.finish()
    made = [json.loads(read_metadata(studio.path("job", index))[MADE]) for index in range(2)]
    assert [each["picture"] for each in made] == [0, 1]
    assert all(each["plan"] == {**studio.loop.plan, "passes": passes} for each in made)
    assert {each["width"] for each in made} == ({2} if deterministic else {max(n for _, n in studio.told.passes)})


def test_a_picture_that_says_nothing_of_itself_says_nothing_of_its_plan(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.draw("job", **SMALL, output={"metadata": False})
    assert read_metadata(studio.path("job")) == {}


def test_over_restarts_a_job_waits_for_no_other_plan_and_says_what_differs(tmp_path: Path) -> None:
    body = {"steps": 40, "seed": 3, "deterministic": True, "sampler": "euler_ancestral"}
    home = tmp_path / "home"
    server = RealServer(home, **{"devices.dtype": "fp32", "devices.threads": 2})
    server.start()
    alike, other = server.submit(body), server.submit(body)
    for job in (alike, other):
        server.wait_for_step(job, 3)
    plan = server.job(alike)["plan"]
    assert (plan["device"], plan["dtype"], plan["threads"]) == ("cpu", "fp32", 2)
    server.http.patch(f"/v1/jobs/{other}", json={"paused": True}).raise_for_status()
    server.kill()
    server.http.close()

    with RealServer(home, **{"devices.dtype": "fp32", "devices.threads": 1}) as server:
        resumed = server.file(alike)
        assert server.job(alike)["plan"] == plan
        assert json.loads(read_metadata(resumed)[MADE])["plan"]["threads"] == 2
        fresh = server.submit({**body, "steps": 2})
        assert json.loads(read_metadata(server.file(fresh))[MADE])["plan"]["threads"] == 1

    with RealServer(home, **{"devices.dtype": "bf16"}) as server:
        server.http.patch(f"/v1/jobs/{other}", json={"paused": False})
        record = server.finished(other)
        assert record["state"] == "failed" and record["failure"]["kind"] == "plan_unavailable"
        assert "dtype was fp32, here it is bf16" in record["failure"]["message"]
        again = server.http.post(f"/v1/jobs/{other}/retry").json()["id"]
        assert server.finished(again)["state"] == "succeeded" and server.job(again)["plan"]["dtype"] == "bf16"

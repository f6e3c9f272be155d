"""No accepted job is lost, whoever is killed, whenever. FAULT_ROUNDS and FAULT_SEED choose how long and which."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import pytest
from tests.acceptance.real_server import RealServer

from .mix import asked, pixels
from .rounds import Fault, campaign, each_in_turn
from .verdict import judge

SLACK_S = 0.5
"""The step that was under way, and the time that writing a checkpoint takes."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="strikes are aimed with inotify")


def seed() -> int:
    """The one that was asked for, or a new one; it is printed."""
    return int(os.environ.get("FAULT_SEED", random.randrange(1 << 32)))


def test_a_few_rounds(tmp_path: Path) -> None:
    rounds = campaign(tmp_path, (Fault.BOTH, Fault.SAVE, Fault.CHECKPOINT), seed())
    assert [wrong for each in rounds for wrong in each.wrong] == []
    assert sum(each.interrupted for each in rounds) > 0, "no fault hit anything"


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_hundred_rounds(tmp_path: Path) -> None:
    rounds = campaign(tmp_path, each_in_turn(int(os.environ.get("FAULT_ROUNDS", "200"))), seed())
    assert [wrong for each in rounds for wrong in each.wrong] == []
    assert max(each.lost_s for each in rounds) <= 2.0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_as_shipped_no_more_is_lost_than_the_checkpoint_interval(tmp_path: Path) -> None:
    """Checkpoints every two seconds; a job of many seconds is struck again and again."""
    chance = random.Random(seed())
    with RealServer(tmp_path / "home", **{"jobs.checkpoint_interval_s": 2.0}) as server:
        body = {**asked("exact", 1), "steps": 150, "width": 192, "height": 192}
        peace = [pixels(server.file(server.submit(body)))]
        lost = []
        for number in range(5):
            job = server.submit({**body, "output": {"quality": 2 + number}})
            server.wait_for_step(job, chance.randrange(40, 130))
            strike = time.time()
            server.kill_worker()
            verdict = judge(server, job, peace, True, [strike])
            assert verdict.wrong == [] and verdict.resumed == 1
            lost.append(verdict.lost_s)
        sys.stdout.write(f"\nseconds of work lost, by kill: {', '.join(f'{each:.2f}' for each in lost)}\n")
        assert max(lost) <= 2.0 + SLACK_S


def test_the_verdict_sees_what_is_wrong(server: RealServer) -> None:
    """A judge that finds everything in order proves nothing unless it can find otherwise."""
    job, other = server.submit(asked("exact", 71)), server.submit(asked("exact", 72), seed=99)
    mine, strange = ([pixels(server.file(each))] for each in (job, other))
    assert judge(server, job, mine, True, []).wrong == []
    assert "differs" in judge(server, job, strange, True, []).wrong[0]
    assert "dB" in judge(server, job, strange, False, []).wrong[0]
    assert "2 were asked for" in judge(server, job, mine * 2, True, []).wrong[0]
    name = server.job(job)["artifacts"][0]["sha256"]
    lies = server.home / "artifacts" / name[:2] / name
    lies.write_bytes(lies.read_bytes()[:-7])
    assert "is not the file" in judge(server, job, mine, True, []).wrong[0]
    failed = server.submit(asked("exact", 71), not_before=time.time() + 1000)
    server.http.post(f"/v1/jobs/{failed}/cancel")
    assert "it cancelled" in judge(server, failed, mine, True, []).wrong[0]

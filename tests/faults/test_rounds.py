"""No accepted job is lost, whoever is killed, whenever. FAULT_ROUNDS and FAULT_SEED choose how long and which."""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from pathlib import Path

import pytest
from tests.acceptance.real_server import RealServer

from .mix import asked, pixels
from .rounds import Fault, Round, campaign, each_in_turn
from .verdict import gaps, judge

INTERVAL_S = 2.0
"""Between checkpoints, as shipped: no more work than this is lost."""

MAX_LOST_S = 1.0
"""With checkpoints every tenth of a second, in the worst round: a job counts from its start, the time included in which
those beside it had their turn, and a tenth is less than a busy machine takes for a turn of all."""

USUALLY_LOST_S = 0.35
"""In the middle of all rounds that cost work. Without checkpoints it is 0.9 s, with them 0.1 s."""

TRUE_AIMS = 0.5
"""Of the strikes that were aimed at a half-made file, so many left one."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="strikes are aimed with inotify")


def seed() -> int:
    """The one that was asked for, or a new one; it is printed."""
    return int(os.environ.get("FAULT_SEED", random.randrange(1 << 32)))


def test_two_rounds(tmp_path: Path) -> None:
    """The server is killed and its worker too; then one aimed strike, of either kind as the seed says."""
    chosen = seed()
    rounds = campaign(tmp_path, (Fault.BOTH, (Fault.SAVE, Fault.CHECKPOINT)[chosen % 2]), chosen)
    assert [wrong for each in rounds for wrong in each.wrong] == []
    assert sum(each.interrupted for each in rounds) > 0, "no fault hit anything"
    assert any(each.connections > len(each.jobs) for each in rounds), "no stream was read over a kill"


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_hundred_rounds(tmp_path: Path) -> None:
    rounds = campaign(tmp_path, each_in_turn(int(os.environ.get("FAULT_ROUNDS", "200"))), seed())
    assert [wrong for each in rounds for wrong in each.wrong] == []
    for fault in Fault:
        struck(fault, [each for each in rounds if each.fault is fault])
    lost = [each.lost_s for each in rounds if each.lost_s]
    assert lost and max(lost) <= MAX_LOST_S and statistics.median(lost) <= USUALLY_LOST_S, sorted(lost)


def struck(fault: Fault, rounds: list[Round]) -> None:
    """Rounds of one kind prove something only where they hit, and where aimed strikes struck what they aimed at."""
    assert sum(len(each.hit) for each in rounds) > 0, f"{fault}: nobody was hit"
    if fault in (Fault.SAVE, Fault.CHECKPOINT):
        aims = [each.aimed for each in rounds if each.aimed is not None]
        assert sum(aims) >= max(1, TRUE_AIMS * len(aims)), f"{fault}: {sum(aims)} of {len(aims)} aims were true"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_as_shipped_no_more_is_lost_than_the_checkpoint_interval(tmp_path: Path) -> None:
    """A job of many seconds is struck again and again."""
    chance = random.Random(seed())
    with RealServer(tmp_path / "home", **{"jobs.checkpoint_interval_s": INTERVAL_S}) as server:
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
        assert max(lost) <= INTERVAL_S


def test_the_verdict_sees_what_is_wrong(server: RealServer) -> None:
    """A judge that finds everything in order proves nothing unless it can find otherwise."""
    job, other = server.submit(asked("exact", 71)), server.submit(asked("exact", 72), seed=99)
    mine, strange = ([pixels(server.file(each))] for each in (job, other))
    assert judge(server, job, mine, True, []).wrong == []
    events = server.events(job)
    steps = [event for event in events if event["kind"] == "step"]
    ends = [event for event in events if event["data"].get("state") == "done"]
    assert len(steps) == 16 and len(ends) >= 3
    for missing in steps:
        assert "told the steps" in gaps([event for event in events if event is not missing])[0]
    for missing in ends:
        assert "never told the end" in gaps([event for event in events if event is not missing])[0]
    assert gaps([event for event in events if event["kind"] not in ("step", "stage")])
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

"""Checkpoints in time, and those that are not what was written: dropped with a warning, the picture is the same."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from tests.acceptance.real_server import RealServer
from tests.acceptance.studio import Studio

from safelight.engine import checkpoint

from .mix import asked, pixels


def cut(file: Path) -> None:
    """Half of it is missing."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    """One bit in the middle of its numbers."""
    content = bytearray(file.read_bytes())
    content[-len(content) // 4] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    """Nothing is in it."""
    file.write_bytes(b"")


def lose(file: Path) -> None:
    """It is gone, and its folder with it."""
    shutil.rmtree(file.parent)


def states(server: RealServer, job: str) -> list[Path]:
    """The files of a job's checkpoints."""
    return sorted((server.home / "checkpoints" / job).rglob("state.safetensors"))


def test_damaged_and_foreign_checkpoints_are_dropped_and_the_picture_is_the_same(server: RealServer) -> None:
    body = {**asked("exact", 61), "steps": 24}
    peace = pixels(server.file(server.submit(body)))
    ways: dict[str, Callable[[Path], None]] = {
        "cut": cut, "flipped": flip, "empty": empty, "lost": lose,
        "foreign": lambda file: shutil.copy(foreign[-1], file), "sound": lambda file: None,
    }  # fmt: skip
    jobs = {name: server.submit(body) for name in ways}
    other = server.submit({**body, "seed": 77})
    for job in (*jobs.values(), other):
        server.wait_for_step(job, 3)
    worker = server.worker_pid()
    os.kill(worker, signal.SIGSTOP)
    foreign = states(server, other)
    for name, damage in ways.items():
        assert states(server, jobs[name])
        for file in states(server, jobs[name]):
            damage(file)
    os.kill(worker, signal.SIGKILL)
    for name, job in jobs.items():
        assert np.array_equal(pixels(server.file(job)), peace), name
        assert [each["end"] for each in server.job(job)["attempts"]] == ["killed", "succeeded"]
        events = server.events(job)
        second = events[[each["data"].get("attempt") for each in events].index(2) :]
        warnings = [each["data"]["message"] for each in second if each["kind"] == "warning"]
        begun = next(each["data"]["step"] for each in second if each["kind"] == "step")
        if name == "sound":
            assert warnings == [] and begun > 3
        else:
            assert len(warnings) == 1 and "starts anew" in warnings[0] and begun == 1, (name, warnings)
            assert ("another request" in warnings[0]) == (name == "foreign")


def test_a_checkpoint_is_on_disk_before_more_than_the_interval_would_be_lost(tmp_path: Path) -> None:
    """Steps of 0.15 s: one that waited for the interval to be over would come after 1.05 s."""
    interval_s, step_s = 1.0, 0.15
    studio = Studio(tmp_path, checkpoint_interval_s=interval_s)
    studio.submit("job", studio.resolve(width=64, height=64, steps=16))
    done_at: dict[int, float] = {}
    while studio.loop.pulse().open:
        studio.loop.turn()
        if (steps := studio.steps("job")) and steps not in done_at:
            done_at[steps] = time.time()
            time.sleep(step_s)
    studio.loop.stop()
    folders = [Path(folder) for folder in studio.told.checkpoints["job", 1]]
    kept = [(folder / checkpoint.STATE).stat().st_mtime for folder in folders]
    holds = [checkpoint.read(folder, torch.device("cpu")).steps for folder in folders]
    lost = [at - done_at[steps] for steps, at in zip(holds, kept[1:], strict=False) if steps]
    assert len(lost) >= 2 and max(lost) <= interval_s, (lost, holds)
    assert all(two - one >= interval_s / 2 - step_s for one, two in pairwise(kept)), "and no more often than it must"

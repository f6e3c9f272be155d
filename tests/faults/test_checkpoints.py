"""Checkpoints that are not what was written: dropped with a warning, and the picture is the same."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.acceptance.real_server import RealServer

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
    body = {**asked("exact", 61), "steps": 40}
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

"""Converted copies of weights as a server keeps them: made by one worker, mapped by the next, the same pictures."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from .real_server import RealServer

PICTURE = {"prompt": "a red house on green hills", "seed": 7, "steps": 3, "deterministic": True}
COMPONENTS = 3


def copies(home: Path) -> list[Path]:
    return sorted((home / "cache" / "weights").glob("*.safetensors"))


def pixels(file: bytes) -> bytes:
    """Of a picture: what it says of itself may have grown by a hash meanwhile."""
    with Image.open(io.BytesIO(file)) as picture:
        return picture.tobytes()


def written(home: Path) -> list[Path]:
    """The copies, once a worker has written one of each component."""
    until = time.monotonic() + 60
    while len(copies(home)) < COMPONENTS:
        assert time.monotonic() < until, copies(home)
        time.sleep(0.2)
    return copies(home)


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has mapped is read in /proc")
def test_a_later_worker_maps_the_copies_and_draws_the_same_pixels(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with RealServer(home, **{"devices.dtype": "bf16"}) as first:
        converted = first.file(first.submit(PICTURE))
        made = {path: path.stat() for path in written(home)}
    assert all(path.name.endswith(".bf16.safetensors") for path in made)
    damaged = next(iter(made))
    damaged.write_bytes(damaged.read_bytes()[:-64])
    with RealServer(home, **{"devices.dtype": "bf16"}) as second:
        worker = second.worker_pid()
        mapped = second.file(second.submit(PICTURE))
        used = [path for path in made if str(path) in Path(f"/proc/{worker}/maps").read_text()]
        again = {path: path.stat() for path in written(home)}
        until = time.monotonic() + 60
        while damaged.stat().st_size != made[damaged].st_size:
            assert time.monotonic() < until, "the damaged copy was not made again"
            time.sleep(0.2)
    assert pixels(mapped) == pixels(converted)
    assert set(used) == set(made) - {damaged}, "sound copies are mapped, the damaged one is not"
    assert all(again[path].st_ino == made[path].st_ino for path in used)


def test_no_copy_is_kept_where_the_setting_says_none(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with RealServer(home, **{"devices.dtype": "bf16", "storage.converted_gib": 0.0}) as server:
        server.file(server.submit(PICTURE))
        time.sleep(4.0)
        assert copies(home) == []

"""The examples of the README's neighbours run as they are written, against one real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The URL of a server of their own."""
    environ = os.environ | {"SAFELIGHT_HOME": str(tmp_path_factory.mktemp("examples")), "SAFELIGHT_SERVER_PORT": "0"}
    command = [sys.executable, "-c", "from safelight.cli.main import main; main()"]
    started = subprocess.run(
        [*command, "serve", "--detach", "--json"], env=environ, capture_output=True, text=True, timeout=120, check=True
    )
    yield json.loads(started.stdout)["url"]
    subprocess.run([*command, "stop"], env=environ, capture_output=True, timeout=120, check=True)


def run(command: list[str], folder: Path, url: str) -> str:
    """What an example prints, run in a folder of its own."""
    environ = os.environ | {"SAFELIGHT_URL": url}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pixels(file: Path) -> Image.Image:
    """The picture, read in full."""
    with Image.open(file) as picture:
        return picture.convert("RGB")


def test_every_example_is_run_here():
    assert {each.name for each in EXAMPLES.iterdir() if each.is_file()} == {
        "generate.py", "many.py", "repaint.py", "jobs.sh",
    }  # fmt: skip


def test_generate(server, tmp_path):
    said = run([sys.executable, str(EXAMPLES / "generate.py"), "a boat on a lake", "boat.png"], tmp_path, server)
    assert said.startswith("boat.png seed ") and pixels(tmp_path / "boat.png").size == (128, 128)


def test_many(server, tmp_path):
    said = run([sys.executable, str(EXAMPLES / "many.py"), "red", "blue"], tmp_path, server)
    assert said.split() == ["house-red.png", "house-blue.png"]
    assert pixels(tmp_path / "house-red.png").tobytes() != pixels(tmp_path / "house-blue.png").tobytes()


def test_repaint(server, tmp_path):
    assert run([sys.executable, str(EXAMPLES / "repaint.py")], tmp_path, server).split() == ["day.png", "night.png"]
    day, night = pixels(tmp_path / "day.png"), pixels(tmp_path / "night.png")
    lower = (0, 96, 128, 128)
    apart = [
        abs(one - other) for one, other in zip(day.crop(lower).tobytes(), night.crop(lower).tobytes(), strict=True)
    ]
    assert max(apart) <= 2
    assert day.crop((0, 0, 128, 48)).tobytes() != night.crop((0, 0, 128, 48)).tobytes()


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("sh"), reason="needs sh and curl")
def test_by_http(server, tmp_path):
    said = run(["sh", str(EXAMPLES / "jobs.sh")], tmp_path, server).splitlines()
    assert said[-2:] == ["event: succeeded", "boat.png"]
    assert pixels(tmp_path / "boat.png").size == (128, 128)

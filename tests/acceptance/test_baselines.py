"""`safelight baseline`: the repository's golden pictures hold, and a picture that changed is caught."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safelight.artifacts import encode_picture, read_metadata

from .real_server import RealServer

BASELINES = Path(__file__).resolve().parents[2] / "examples" / "baselines"

ONE = """
[fields]
prompt = "a red house"
width = 64
height = 64
steps = 2
deterministic = true
[scenario.house]
[scenario.boat]
prompt = "a boat"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with RealServer(tmp_path_factory.mktemp("baselines") / "home", **{"devices.dtype": "fp32"}) as running:
        yield running


def baseline(server: RealServer, *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output, standard error; drawn by `server`."""
    return run({"SAFELIGHT_URL": str(server.http.base_url), "SAFELIGHT_HOME": str(server.home)}, *arguments)


def run(variables: dict[str, str], *arguments: str | Path) -> tuple[int, str, str]:
    """The same with these variables."""
    environ = os.environ | variables
    command = [sys.executable, "-c", "from safelight.cli.main import main; main()", "baseline", *map(str, arguments)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=280, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def perturb(file: Path) -> None:
    """Change one pixel by one level; the file tells the same of itself."""
    with Image.open(file) as picture:
        touched, texts = picture.convert("RGB"), read_metadata(file)
    red, green, blue = touched.getpixel((20, 20))
    touched.putpixel((20, 20), (red ^ 1, green, blue))
    file.write_bytes(encode_picture(touched, "png", 92, texts))


def test_the_golden_pictures_of_the_repository_hold(tmp_path) -> None:
    home = {"SAFELIGHT_HOME": str(tmp_path / "home"), "SAFELIGHT_DEVICES_DTYPE": "bf16", "TMPDIR": str(tmp_path)}
    code, out, err = run(home, "compare", "--config", BASELINES / "postcards.toml", "--output-dir", tmp_path,
                         "--log-level", "error")  # fmt: skip
    told = json.loads((tmp_path / "baselines.json").read_text())
    assert code == 0 and err.startswith("No server runs; started one at ") and err.count("\n") == 1, (out, err)
    assert (tmp_path / "baselines.html").is_file() and not list(tmp_path.glob("safelight-*")), (
        "its server leaves nothing"
    )
    assert told["passed"] and len(told["cases"]) == len(list((BASELINES / "postcards").glob("*.png")))
    assert all(case["identical"] or (case["promised"] == "alike" and case["plan"]) for case in told["cases"])


def test_a_changed_picture_is_caught(server, tmp_path) -> None:
    for name in ("inputs", "postcards"):
        shutil.copytree(BASELINES / name, tmp_path / name)
    config = shutil.copy(BASELINES / "postcards.toml", tmp_path)
    folder = tmp_path / "postcards"
    chosen = ("--scenario", "euler-karras", "--scenario", "lo*", "--output-dir", tmp_path / "report")
    # As though one solver were taken for another; elsewhere than on this kind of CPU this is what is left to catch.
    shutil.copy(folder / "euler-karras.png", aside := tmp_path / "aside.png")
    with Image.open(folder / "heun-karras.png") as other:
        (folder / "euler-karras.png").write_bytes(encode_picture(other, "png", 92, read_metadata(aside)))
    code, _, err = baseline(server, "compare", "--config", config, *chosen)
    assert code == 1 and "error   cli.baseline: euler-karras: " in err and "info    cli.baseline: loras: " in err
    assert "1 of 2 baselines hold" in err
    page = (tmp_path / "report" / "baselines.html").read_text()
    assert page.count('<tr class="failed">') == page.count('<tr class="passed">') == 1
    shutil.copy(aside, folder / "euler-karras.png")
    assert baseline(server, "compare", "--config", config, *chosen)[0] == 0


def test_capture_writes_compares_and_keeps_what_is_there(server, tmp_path) -> None:
    config = tmp_path / "book.toml"
    config.write_text(ONE)
    asked = ("--config", config)
    report = ("--output-dir", tmp_path / "report")

    code, out, _ = baseline(server, "capture", *asked, "--dry-run")
    assert code == 0 and out.count(" new") == 2 and not (tmp_path / "book").exists()
    planned = json.loads(baseline(server, "compare", *asked, "--dry-run", "--json")[1])["scenarios"]
    house = {"name": "house", "operation": "image.generate", "seed": 1, "state": "has no baseline"}
    assert planned == [house, {**house, "name": "boat"}]
    code, _, err = baseline(server, "compare", *asked, *report)
    assert code == 1 and err.count("there is no baseline") == 2

    code, out, _ = baseline(server, "capture", *asked, "--json")
    assert code == 0
    assert json.loads(out) == {"folder": str(tmp_path / "book"), "written": ["house", "boat"], "failed": {}}
    assert sorted(path.name for path in (tmp_path / "book").iterdir()) == [
        "boat.json", "boat.png", "house.json", "house.png",
    ]  # fmt: skip
    facts = json.loads((tmp_path / "book" / "boat.json").read_text())
    assert facts["seconds"] > 0 and facts["peak_bytes"] > 2**20
    code, _, err = baseline(server, "capture", *asked, "--scenario", "house")
    assert code == 1 and "there already" in err and "house" in err and "boat" not in err

    assert baseline(server, "compare", *asked, *report)[0] == 0
    perturb(tmp_path / "book" / "house.png")
    code, _, err = baseline(server, "compare", *asked, *report)
    assert code == 1 and "house: 0.02% of the pixels differ, by at most 1; the same plan promises none" in err
    (tmp_path / "book" / "stray.png").write_bytes(b"")
    code, _, err = baseline(server, "compare", *asked, *report)
    assert code == 1 and "of no scenario: stray.png" in err
    (tmp_path / "book" / "stray.png").unlink()
    assert baseline(server, "capture", *asked, "--overwrite", "--scenario", "house")[0] == 0
    assert baseline(server, "compare", *asked, *report)[0] == 0
    config.write_text(ONE.replace("a boat", "a tent"))
    code, _, err = baseline(server, "compare", *asked, *report)
    assert code == 1 and "boat: the baseline is of another request: prompt was 'a boat', now it is 'a tent'" in err


def test_the_first_failure_is_the_last_unless_asked(server, tmp_path) -> None:
    config = tmp_path / "book.toml"
    config.write_text(ONE.replace("[scenario.house]", "[scenario.house]\nsampler = 'oiler'"))
    code, _, err = baseline(server, "capture", "--config", config)
    assert code == 1 and "house: " in err and "'oiler'" in err and "--continue-on-error" in err
    assert not (tmp_path / "book").exists()
    told = json.loads(baseline(server, "compare", "--config", config, "--json", "--output-dir", tmp_path / "report")[1])
    assert [case["faults"] for case in told["cases"]] == [["there is no baseline: capture it, and look at it"]] * 2
    (tmp_path / "book").mkdir()
    for name in ("house", "boat"):
        shutil.copy(BASELINES / "postcards" / "euler-karras.png", tmp_path / "book" / f"{name}.png")
        shutil.copy(BASELINES / "postcards" / "euler-karras.json", tmp_path / "book" / f"{name}.json")
    code, out, _ = baseline(server, "compare", "--config", config, "--json", "--output-dir", tmp_path / "report")
    first, second = (case["faults"][0] for case in json.loads(out)["cases"])
    assert code == 1 and "it could not be drawn: " in first and second.startswith("it was not drawn")
    shutil.rmtree(tmp_path / "book")
    code, _, err = baseline(server, "capture", "--config", config, "--continue-on-error")
    assert code == 1 and "1 of 2 baselines were written" in err
    assert [path.name for path in sorted((tmp_path / "book").iterdir())] == ["boat.json", "boat.png"]


@pytest.mark.slow
def test_all_pairs_of_samplers_and_schedules_come_out_the_same_twice(server, tmp_path) -> None:
    config = tmp_path / "pairs.toml"
    fields = ONE.partition("[scenario")[0]
    config.write_text(f'{fields}\n[[matrix]]\nsamplers = ["*"]\nschedules = ["*"]\n')
    assert baseline(server, "capture", "--config", config, "--continue-on-error", "--log-level", "error")[2] == ""
    for file in (tmp_path / "pairs").glob("*.png"):
        assert np.asarray(Image.open(file)).std() > 4, f"{file.name} shows nothing"
    code, _, err = baseline(server, "compare", "--config", config, "--continue-on-error", "--log-level", "error",
                            "--output-dir", tmp_path)  # fmt: skip
    assert (code, err) == (0, "")
    told = json.loads((tmp_path / "baselines.json").read_text())
    assert all(case["identical"] for case in told["cases"]) and len(told["cases"]) >= 48

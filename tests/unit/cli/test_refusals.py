"""What cannot be asked is refused before anything is started: every fault, in words, with exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.fixture
def command(tmp_path):
    """Runs the program with a data folder that is not there yet; it must not be made."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("SAFELIGHT_")}
    environ |= {"SAFELIGHT_HOME": str(tmp_path / "home"), "SAFELIGHT_ENV": "production"}

    def run(*arguments: str) -> tuple[int, str, str]:
        code = [sys.executable, "-c", "from safelight.cli.main import main; main()", *arguments]
        done = subprocess.run(code, check=False, capture_output=True, text=True, env=environ, timeout=60, cwd=tmp_path)
        return done.returncode, done.stdout, done.stderr

    yield run
    assert not (tmp_path / "home").exists()


def test_every_fault_of_a_request_has_its_line(command):
    code, out, err = command("generate", " ", "--model", "x" * 301)
    assert (code, out) == (2, "")
    assert "Error: prompt: ' ' is refused" in err and "Error: model:" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("image", ["missing.png", "./no/such.webp"])
def test_a_picture_that_is_not_there_is_named(command, image):
    code, _, err = command("transform", "a boat", "--image", image)
    assert code == 2 and f"{image} cannot be read" in err


def test_json_of_a_server_in_the_foreground_is_refused(command):
    code, _, err = command("serve", "--json")
    assert code == 2 and "--detach" in err


@pytest.mark.parametrize("arguments", [["status"], ["stop"], ["jobs", "retry", "x"], ["generate", "x", "--no-wait"]])
def test_what_needs_a_server_that_stays_exits_3(command, arguments):
    code, out, err = command(*arguments)
    assert (code, out) == (3, "") and "No server runs" in err


@pytest.mark.parametrize("arguments", [["serve", "--host", "0.0.0.0"], ["serve", "--set", "jobs.lease_s=0"]])
def test_settings_that_cannot_be_are_refused(command, arguments):
    code, _, err = command(*arguments)
    assert code == 2 and "is refused" in err

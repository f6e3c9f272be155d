"""`safelight config`, as a process of its own: what it prints and how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib

import pytest


@pytest.fixture
def config(tmp_path):
    environ = {key: value for key, value in os.environ.items() if not key.startswith("SAFELIGHT_")}
    environ |= {"SAFELIGHT_HOME": str(tmp_path), "SAFELIGHT_ENV": "production"}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from safelight.cli.main import main; main()", "config", *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environ | more, timeout=60)

    return run


def test_show_prints_what_can_be_read_again(config, tmp_path):
    shown = config("show", "--set", "models.folders=/a:/b")
    assert shown.returncode == 0
    content = tomllib.loads(shown.stdout)
    assert content["models"]["folders"] == ["/a", "/b"]
    assert content["storage"]["home"] == str(tmp_path)
    assert content["performance"]["max_batch_size"] == 16


def test_show_says_where_a_value_was_given(config, tmp_path):
    (tmp_path / "safelight.toml").write_text("[server]\nport = 9000\n")
    shown = json.loads(config("show", "--origin", "--json", SAFELIGHT_JOBS_MAX_OPEN="4").stdout)
    assert shown["settings"]["server"]["port"] == 9000
    assert shown["origins"]["server.port"] == f"{tmp_path / 'safelight.toml'}:2"
    assert shown["origins"]["jobs.max_open"] == "SAFELIGHT_JOBS_MAX_OPEN"
    assert shown["origins"]["log.format"] == "environment production"
    assert shown["origins"]["server.host"] == "default"
    assert f"# {tmp_path / 'safelight.toml'}:2" in config("show", "--origin").stdout


def test_check_lists_every_fault_and_exits_1(config):
    checked = config("check", "--set", "server.port=x", "--set", "log.level=loud")
    assert checked.returncode == 1
    assert "server.port: 'x' is refused" in checked.stdout and "log.level: 'loud' is refused" in checked.stdout
    as_json = json.loads(config("check", "--json", "--set", "server.port=x").stdout)
    assert as_json["valid"] is False
    assert as_json["faults"][0]["setting"] == "server.port"


def test_check_of_good_settings_exits_0(config):
    checked = config("check")
    assert (checked.returncode, checked.stdout) == (0, "The settings are good.\n")
    assert json.loads(config("check", "--json").stdout) == {"valid": True, "faults": []}


def test_docs_lists_every_setting(config):
    table = json.loads(config("docs", "--json").stdout)
    assert {key: table[1][key] for key in ("setting", "variable", "default")} == {
        "setting": "server.port",
        "variable": "SAFELIGHT_SERVER_PORT",
        "default": 8484,
    }
    assert "| `port` | `8484` |" in config("docs").stdout
    assert "# port = 8484" in config("docs", "--toml").stdout


def test_a_command_with_bad_settings_exits_2_and_says_why(config):
    shown = config("show", "--set", "jobs.max_open=0")
    assert shown.returncode == 2
    assert shown.stderr.startswith("Error: jobs.max_open: '0' is refused (--set jobs.max_open).")


def test_an_unknown_command_is_answered_with_the_nearest(config):
    command = [sys.executable, "-c", "from safelight.cli.main import main; main()", "confg"]
    answered = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert answered.returncode == 2
    assert "Did you mean config?" in answered.stderr


def test_looking_at_the_settings_makes_no_folder(config, tmp_path):
    assert config("show", SAFELIGHT_HOME=str(tmp_path / "new")).returncode == 0
    assert not (tmp_path / "new").exists()

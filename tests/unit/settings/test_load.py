"""Settings: where values come from, what is refused, and what a refusal says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.builders.timing import processor_seconds

from safelight.settings import InvalidSettings, Setting, SettingFault, load_settings, setting_table, settings_of

TABLE = list(setting_table().values())


def faults(**kwargs) -> list[SettingFault]:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(**kwargs)
    return list(caught.value.faults)


def home_with(tmp_path: Path, text: str) -> dict[str, str]:
    (tmp_path / "safelight.toml").write_text(text, "utf-8")
    return {"SAFELIGHT_HOME": str(tmp_path)}


def test_each_source_goes_over_the_one_before(tmp_path):
    environ = {"SAFELIGHT_ENV": "production", "SAFELIGHT_HOME": str(tmp_path)}
    assert load_settings(environ={}).server.port == 8484
    assert load_settings(environ=environ).log.format == "json"
    environ |= home_with(tmp_path, '[log]\nformat = "text"\n[server]\nport = 1001\n')
    settings = load_settings(environ=environ)
    assert (settings.log.format, settings.server.port) == ("text", 1001)
    environ["SAFELIGHT_SERVER_PORT"] = "1002"
    assert load_settings(environ=environ).server.port == 1002
    settings = load_settings(environ=environ, overrides=["server.port = 1003"])
    assert settings.server.port == 1003
    assert settings.file == tmp_path / "safelight.toml"
    assert {key: str(origin) for key, origin in settings.origins.items()} == {
        "log.level": "environment production",
        "log.format": f"{tmp_path / 'safelight.toml'}:2",
        "devices.dtype": "environment production",
        "performance.max_batch_size": "environment production",
        "storage.home": "SAFELIGHT_HOME",
        "server.port": "--set server.port",
    }


@pytest.mark.parametrize(
    ("environ", "environment"),
    [
        ({}, "development"),
        ({"CI": "true"}, "testing"),
        ({"CI": "false"}, "development"),
        ({"GITLAB_CI": "1"}, "testing"),
        ({"CI": "true", "SAFELIGHT_ENV": "Staging"}, "staging"),
        ({"SAFELIGHT_ENV": "production"}, "production"),
    ],
)
def test_the_environment_is_named_or_found(environ, environment):
    assert load_settings(environ=environ).environment == environment


def test_the_environments_differ_as_documented():
    by_name = {
        name: load_settings(environ={"SAFELIGHT_ENV": name})
        for name in ("development", "testing", "staging", "production")
    }
    assert {name: each.performance.max_batch_size for name, each in by_name.items()} == {
        "development": 2,
        "testing": 1,
        "staging": 16,
        "production": 16,
    }
    assert {name: (each.log.level, each.log.format) for name, each in by_name.items()} == {
        "development": ("debug", "text"),
        "testing": ("info", "text"),
        "staging": ("debug", "json"),
        "production": ("info", "json"),
    }
    homes = {name: each.storage.home for name, each in by_name.items()}
    assert homes["testing"] != homes["production"] == homes["staging"] == homes["development"]


def test_the_data_folder_has_a_place_of_its_own_on_each_system(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert load_settings(environ={}).storage.home == tmp_path / ".local" / "share" / "safelight"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert load_settings(environ={}).storage.home == tmp_path / "local" / "safelight"


def test_folders_are_meant_from_where_they_are_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    file = tmp_path / "etc" / "other.toml"
    file.parent.mkdir()
    file.write_text('[models]\nfolders = ["../checkpoints", "~/more", "/abs"]\n[storage]\nhome = "data"\n', "utf-8")
    settings = load_settings(file=file, environ={})
    assert settings.models.folders == (tmp_path / "checkpoints", tmp_path / "me" / "more", Path("/abs"))
    assert settings.storage.home == tmp_path / "etc" / "data"
    monkeypatch.chdir(tmp_path)
    for given in ("a:/b", '["a", "/b"]'):
        assert load_settings(overrides=[f"models.folders={given}"], environ={}).models.folders == (
            tmp_path / "a",
            Path("/b"),
        )


def test_a_data_folder_cannot_move_itself(tmp_path):
    [fault] = faults(environ=home_with(tmp_path, '[storage]\nhome = "/elsewhere"\n'))
    assert (fault.setting, fault.origin.line) == ("storage.home", 2)
    assert "SAFELIGHT_HOME" in fault.allowed


def test_all_faults_are_said_at_once_with_file_and_line(tmp_path):
    text = """\
# faults of every kind
[server]
port = 70_000
prot = 1

[jobs]
lease_s = "long"
max_open = 2.5
checkpoint_interval_s = -1

[log]
level = "loud"

[sever]
host = "x"
"""
    found = {fault.setting: fault for fault in faults(environ=home_with(tmp_path, text))}
    where = {name: (fault.origin.where, fault.origin.line) for name, fault in found.items()}
    file = str(tmp_path / "safelight.toml")
    assert where == {
        "server.port": (file, 3),
        "server.prot": (file, 4),
        "jobs.lease_s": (file, 7),
        "jobs.max_open": (file, 8),
        "jobs.checkpoint_interval_s": (file, 9),
        "log.level": (file, 12),
        "sever": (file, 14),
    }
    assert str(found["server.port"]) == (
        f"server.port: 70000 is refused ({file}:3). Allowed: a whole number from 1 to 65535, or 0 (any free port)."
    )
    assert "Did you mean server.port?" in found["server.prot"].allowed
    assert "Did you mean server?" in found["sever"].allowed
    assert "debug, info, warning, error" in found["log.level"].allowed


def test_inline_and_dotted_tables_have_lines_too(tmp_path):
    text = 'server = { port = -1 }\njobs.max_open = 0\n"log".level = "x"\n'
    found = faults(environ=home_with(tmp_path, text))
    assert {(fault.setting, fault.origin.line) for fault in found} == {
        ("server.port", 1),
        ("jobs.max_open", 2),
        ("log.level", 3),
    }


def test_a_file_that_is_no_toml_or_not_there_is_said(tmp_path):
    [fault] = faults(environ=home_with(tmp_path, "[server]\nport = = 1\n"))
    assert fault.origin.line == 2
    [fault] = faults(file=tmp_path / "none.toml", environ={})
    assert "No such file" in fault.allowed and str(tmp_path / "none.toml") in str(fault)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    [fault] = faults(file=tmp_path / "latin.toml", environ={})
    assert "UTF-8" in fault.allowed


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("SAFELIGHT_SERVER_PROT", "SAFELIGHT_SERVER_PORT"),
        ("SAFELIGHT_SEVER_PORT", "SAFELIGHT_SERVER_PORT"),
    ],
)
def test_a_variable_that_sets_nothing_is_refused_with_the_nearest(name, near):
    [fault] = faults(environ={name: "1"})
    assert fault.setting == name and f"Did you mean {near}?" in fault.allowed


def test_variables_of_other_things_are_let_be():
    settings = load_settings(environ={"SAFELIGHT_URL": "http://127.0.0.1:1", "SAFELIGHT_WHATEVER": "1"})
    assert settings == load_settings(environ={})


def test_an_unknown_environment_and_a_broken_option_are_refused():
    found = faults(environ={"SAFELIGHT_ENV": "prodction"}, overrides=["port=1", "server.port", "server=1"])
    said = {fault.setting: fault.allowed for fault in found}
    assert "Did you mean production?" in said["environment"]
    assert "Did you mean server.port?" in said["port"]
    assert "section.name=value" in said["server.port"]
    assert "section" in said["server"]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "example.org"])
def test_listening_beyond_this_machine_is_refused_without_keys(host):
    [fault] = faults(environ={}, overrides=[f"server.host={host}"])
    assert fault.setting == "server.host" and "API keys" in fault.allowed


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_listening_on_this_machine_is_allowed(host):
    assert load_settings(environ={}, overrides=[f"server.host={host}"]).server.host == host


def test_a_lease_must_outlive_a_lost_heartbeat():
    [fault] = faults(environ={}, overrides=["jobs.lease_s=3", "jobs.heartbeat_s=2"])
    assert fault.setting == "jobs.heartbeat_s" and "1.5" in fault.allowed
    assert load_settings(environ={}, overrides=["jobs.lease_s=3", "jobs.heartbeat_s=1.5"]).jobs.heartbeat_s == 1.5


def outside(setting: Setting) -> list[object]:
    """Values just below, just above, and of the wrong type."""
    if setting.kind in ("int", "float"):
        numbers = [setting.minimum / 2 if setting.kind == "float" else setting.minimum - 1, setting.maximum + 1, -1]
        return [each for each in numbers if not (setting.zero and each == 0)] + ["text", True, [], float("nan")]
    if setting.kind == "choice":
        return ["", "nothing", 1, True]
    return {
        "bool": ["maybe", 1, []],
        "text": ["", 1, True, []],
        "folder": ["", 1],
        "folders": ["x", [1], [""], 1],
        "modules": ["x", [1], ["a b"], 1],
        "networks": ["10.0.0.0/8", [1], ["10.0.0.0/33"], ["home"], [""], 1],
    }[setting.kind]


def inside(setting: Setting) -> list[object]:
    if setting.kind in ("int", "float"):
        return [setting.minimum, setting.maximum, *([0] if setting.zero else [])]
    if setting.kind == "choice":
        return list(setting.choices)
    return {
        "bool": [False, True],
        "text": [setting.default],
        "folder": ["/data"],
        "folders": [[], ["/a", "/b"]],
        "modules": [[], ["a.b", "c"]],
        "networks": [[], ["10.0.0.0/8", "fd00::/8"]],
    }[setting.kind]


@pytest.mark.parametrize(
    ("setting", "value"), [(each, value) for each in TABLE for value in outside(each)], ids=lambda each: repr(each)[:40]
)
def test_every_setting_refuses_what_is_not_allowed(setting, value):
    with pytest.raises(InvalidSettings) as caught:
        settings_of({setting.section: {setting.name: value}})
    [fault] = [fault for fault in caught.value.faults if fault.setting == setting.key]
    assert setting.allowed in fault.allowed


@pytest.mark.parametrize(
    ("setting", "value"), [(each, value) for each in TABLE for value in inside(each)], ids=lambda each: repr(each)[:40]
)
def test_every_setting_takes_its_limits(setting, value):
    beside = {"jobs.lease_s": {"heartbeat_s": 0.02}, "jobs.heartbeat_s": {"lease_s": 3600}}.get(setting.key, {})
    settings = settings_of({setting.section: {**beside, setting.name: value}})
    assert settings.values()[setting.section][setting.name] == value


@pytest.mark.parametrize("setting", TABLE, ids=lambda each: each.key)
def test_every_setting_is_read_from_its_variable(setting):
    value = inside(setting)[0]
    text = ":".join(value) if isinstance(value, list) else str(value)
    environ = {setting.variable: text, "SAFELIGHT_JOBS_HEARTBEAT_S": "0.02"} | {setting.variable: text}
    assert load_settings(environ=environ).values()[setting.section][setting.name] == value


def test_truth_is_written_in_many_ways():
    flag = Setting("x", "y", "bool", False, "")
    assert [flag.read_text(text, Path()) for text in ("true", "On", "1", "no", "FALSE")] == [True] * 3 + [False] * 2
    with pytest.raises(ValueError, match="true or false"):
        flag.read_text("maybe", Path())


def test_networks_are_read_as_lists_and_as_text():
    expected = ["192.168.1.0/24", "::1/128"]
    assert (
        settings_of({"webhooks": {"networks": ["192.168.1.7/24", "::1"]}}).values()["webhooks"]["networks"] == expected
    )
    for text in ("192.168.1.7/24, ::1", '["192.168.1.7/24", "::1"]'):
        settings = load_settings(environ={"SAFELIGHT_WEBHOOKS_NETWORKS": text})
        assert settings.values()["webhooks"]["networks"] == expected


def test_values_travel_as_json():
    overrides = ["models.folders=/a:/b", "jobs.lease_s=9", "webhooks.networks=10.0.0.0/8"]
    settings = load_settings(environ={}, overrides=overrides)
    assert settings_of(json.loads(json.dumps(settings.values())), settings.environment) == settings


def test_settings_are_frozen():
    settings = load_settings(environ={})
    with pytest.raises(AttributeError):
        settings.server.port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.origins["server.port"] = None  # type: ignore[index]


def test_loading_and_checking_takes_less_than_100_ms(tmp_path):
    """From nothing imported: what a command pays before it can begin. Processor time, as others may be at work."""
    home = home_with(tmp_path, "\n".join(f"[{name}]\n" for name in ("server", "jobs")))
    cold = "import safelight.settings as s\ns.load_settings()"
    assert min(processor_seconds(cold, attempts=1) for _ in range(3)) < 0.1
    assert processor_seconds(f"s.load_settings(environ={home!r})", "import safelight.settings as s") < 0.05

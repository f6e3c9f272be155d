"""Changing a setting in a file leaves everything else as it was."""

from __future__ import annotations

import tomllib

import click
import pytest

from safelight.cli.settings_file import changed, in_file, write

VALUE = '["/new"]'

CASES = {
    "an empty file": "",
    "no such section": "[server]\nport = 9000 # ours\n",
    "a section without the key": "# top\n[models]  # where\ndefault = 'x'\n[log]\nlevel = 'info'\n",
    "one line": "[models]\nfolders = ['/old']\ndefault = 'x'\n",
    "several lines": "[models]\nfolders = [\n  '/old', # mine\n  '/older',\n]\ndefault = 'x'\n\n[log]\n",
    "a dotted key": "models.folders = ['/old']\n[log]\nlevel = 'info'\n",
}


@pytest.mark.parametrize("text", CASES.values(), ids=CASES.keys())
def test_only_the_setting_changes(text):
    before = tomllib.loads(text)
    after = tomllib.loads(changed(text, "models", "folders", VALUE))
    assert after["models"].pop("folders") == ["/new"]
    before.get("models", {}).pop("folders", None)
    before.setdefault("models", {})
    assert after == before


@pytest.mark.parametrize("text", CASES.values(), ids=CASES.keys())
def test_comments_stay(text):
    made = changed(text, "models", "folders", VALUE)
    kept = [line for line in text.splitlines() if "#" in line and "/old" not in line]
    assert [line for line in kept if line not in made.splitlines()] == []


def test_what_cannot_be_changed_in_place_is_said_and_left():
    with pytest.raises(click.ClickException, match="write by hand: folders ="):
        changed("models = { default = 'x' }\n", "models", "folders", VALUE)


def test_a_file_is_made_and_changed_again(tmp_path):
    file = tmp_path / "new" / "safelight.toml"
    write(file, "models", {"folders": ("/a",), "lora_folders": ("/b",)})
    write(file, "models", {"folders": ("/a", "/c")})
    assert in_file(file, "models", "folders") == ["/a", "/c"]
    assert in_file(file, "models", "lora_folders") == ["/b"]
    assert [each.name for each in file.parent.iterdir()] == ["safelight.toml"]

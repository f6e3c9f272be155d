"""Where pictures go: a table of `-o`."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from safelight.cli import saving

PNG = {"id": "a1", "media_type": "image/png"}
WEBP = {"id": "b2", "media_type": "image/webp"}


@pytest.mark.parametrize(
    ("destination", "artifacts", "paths"),
    [
        (None, (PNG, WEBP), ["a1.png", "b2.webp"]),
        ("out/", (PNG,), ["out/a1.png"]),
        ("there", (PNG, WEBP), ["there/a1.png", "there/b2.webp"]),
        ("x.png", (PNG,), ["x.png"]),
        ("x.y.png", (PNG, PNG), ["x.y-1.png", "x.y-2.png"]),
    ],
)
def test_every_picture_has_its_place(destination, artifacts, paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert saving.targets(destination, artifacts) == [Path(each) for each in paths]


def test_the_ending_says_the_format(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    asked = {
        name: saving.format_of(name) for name in ("a.PNG", "a.jpg", "a.avif", "a", "a.txt", "folder.png", "a.webp/")
    }
    assert asked == {"a.PNG": "png", "a.jpg": "jpeg", "a.avif": "avif", "a": None, "a.txt": None,
                     "folder.png": None, "a.webp/": None}  # fmt: skip
    assert saving.format_of(None) is None


def test_a_folder_that_is_not_there_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(click.BadParameter, match="end the name with /"):
        saving.check(str(tmp_path / "no" / "x.png"))
    assert saving.check(str(tmp_path / "no" / "x") + "/") is None

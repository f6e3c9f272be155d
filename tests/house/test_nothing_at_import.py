"""Importing a module does nothing: no file or folder is made, nothing is printed, nothing is started or opened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.house.source import ROOT, SRC, modules
from tests.house.test_imports import HEAVY_ROOMS

WATCH = """
import importlib, json, os, sys, threading
noted, current = [], ""
def note(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else "w" in str(mode)
        if writes and path != os.devnull and not isinstance(path, int):
            noted.append([current, event, str(path)])
    elif event in ("os.mkdir", "os.rename", "os.remove", "socket.bind", "socket.connect", "os.system",
                   "subprocess.Popen", "os.fork", "os.kill"):
        noted.append([current, event, str(arguments[:1])])
def there():
    return {{os.path.join(folder, name) for folder, folders, files in os.walk(".") for name in folders + files}}
{before}
before = there()
sys.addaudithook(note)
for current in {names!r}:
    importlib.import_module(current)
    if threading.active_count() > 1:
        noted.append([current, "thread", str(threading.enumerate()[1:])])
        break
noted += [["", "made", path] for path in sorted(there() - before)]
print(json.dumps(noted))
"""


def effects(names: list[str], home: Path, before: str = "") -> tuple[list[list[str]], str]:
    """What importing `names` does in a clean process, and what it prints beside."""
    environ = {
        "HOME": str(home), "TMPDIR": str(home / "tmp"), "PATH": os.environ.get("PATH", ""),
        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(SRC), "PYTHONWARNINGS": "error::DeprecationWarning:safelight",
    }  # fmt: skip
    (home / "tmp").mkdir()
    home.chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-c", WATCH.format(names=names, before=before)],
            check=False, capture_output=True, text=True, cwd=home, env=environ, timeout=250,
        )  # fmt: skip
    finally:
        home.chmod(0o755)
    assert done.returncode == 0, done.stderr[-3000:]
    *printed, noted = done.stdout.splitlines()
    return json.loads(noted), "\n".join(printed) + done.stderr


@pytest.mark.parametrize("room", ["light", "heavy"])
def test_importing_every_module_does_nothing(room, tmp_path):
    heavy = room == "heavy"
    names = [module.name for module in modules() if module.inside(*HEAVY_ROOMS) == heavy]
    # What others do when they are imported is not ours: torch and its kin are loaded before the watch begins.
    before = "import diffusers, torch, transformers" if heavy else ""
    noted, printed = effects(names, tmp_path, before)
    assert noted == []
    assert printed == ""


def test_the_watch_sees_what_it_looks_for(tmp_path):
    """A module that writes, prints, and starts a process is caught doing each."""
    (tmp_path / "busy.py").write_text(
        "import subprocess\nopen('made', 'w').close()\nprint('here')\nsubprocess.run(['true'])\n"
    )
    noted, printed = effects(["busy"], tmp_path, f"sys.path.insert(0, {str(tmp_path)!r})")
    assert {event for _, event, _ in noted} >= {"open", "made", "subprocess.Popen"}
    assert "here" in printed


def test_the_source_lies_where_the_tests_look():
    assert (ROOT / "pyproject.toml").is_file()
    assert any(module.name == "safelight.errors" for module in modules())

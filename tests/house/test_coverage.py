"""Coverage counts what runs in workers: in subprocesses, in their forks, and where they leave by `os._exit`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib

import pytest
from tests.house.source import ROOT

PARENT = """\
import subprocess, sys
subprocess.run([sys.executable, {zygote!r}], check=True, cwd={elsewhere!r})
"""
ZYGOTE = """\
import os
import threading

def in_fork():
    seen = []
    thread = threading.Thread(target=in_thread, args=(seen,))
    thread.start()
    thread.join()
    os._exit(0 if seen else 1)

def in_thread(seen):
    seen.append(1)

def never():
    return 1

child = os.fork()
if child == 0:
    in_fork()
pid, status = os.waitpid(child, 0)
os._exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows starts its workers anew; the subprocess part is the same")
def test_forks_of_subprocesses_are_counted(tmp_path):
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["coverage"]["run"]
    lines = ["[run]", "parallel = true", f"source = {tmp_path}", f"data_file = {tmp_path / '.coverage'}"]
    lines += [f"{name} = {', '.join(config[name])}" for name in ("patch", "concurrency")]
    lines += [f"sigterm = {config['sigterm']}"]
    (tmp_path / "rc").write_text("\n".join(lines))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "zygote.py").write_text(ZYGOTE)
    (tmp_path / "parent.py").write_text(
        PARENT.format(zygote=str(tmp_path / "zygote.py"), elsewhere=str(tmp_path / "elsewhere"))
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}

    def coverage(*arguments: str) -> str:
        command = [sys.executable, "-m", "coverage", arguments[0], "--rcfile", str(tmp_path / "rc"), *arguments[1:]]
        return subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True, text=True).stdout

    coverage("run", str(tmp_path / "parent.py"))
    coverage("combine")
    files = json.loads(coverage("json", "-o", "-", "--include", "*zygote.py").splitlines()[0])["files"]
    [zygote] = files.values()
    number = {line.strip(): at for at, line in enumerate(ZYGOTE.splitlines(), 1)}
    assert number["seen.append(1)"] in zygote["executed_lines"]
    assert number["os._exit(0 if seen else 1)"] in zygote["executed_lines"]
    # The frame that forks is not followed in the child, what it calls is: a zygote's child begins with a call.
    assert zygote["missing_lines"] == [number["return 1"], number["in_fork()"]]

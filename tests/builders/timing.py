"""Processor time of a few lines, in a process of their own: no measuring of coverage, nothing imported before."""

from __future__ import annotations

import os
import subprocess
import sys


def processor_seconds(lines: str, before: str = "", attempts: int = 5) -> float:
    """The shortest of several runs of `lines`, after `before` was run once in the same process."""
    code = (
        f"import time\n{before}\nspent = []\nfor _ in range({attempts}):\n    began = time.process_time()\n"
        + "".join(f"    {line}\n" for line in lines.splitlines())
        + "    spent.append(time.process_time() - began)\nprint(min(spent))"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environ)
    return float(done.stdout)

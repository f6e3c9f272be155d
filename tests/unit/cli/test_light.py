"""The command line is light: asking for help loads nothing that is heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers", "numpy", "pydantic", "httpx", "fastapi", "rich", "PIL")


@pytest.mark.parametrize("arguments", ["--help", "--version", "jobs --help", "serve --help", "models --help"])
def test_help_loads_nothing_heavy(arguments):
    code = f"""
import sys
sys.argv = ["safelight", *{arguments.split()!r}]
from safelight.cli.main import main
try:
    main()
except SystemExit as left:
    assert left.code == 0, left.code
print([each for each in {HEAVY!r} if each in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_options_of_an_operation_load_no_torch():
    code = """
import sys
sys.argv = ["safelight", "inpaint", "--help"]
from safelight.cli.main import main
try:
    main()
except SystemExit:
    print([each for each in ("torch", "diffusers", "transformers") if each in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert "--mask-blur" in done.stdout and done.stdout.splitlines()[-1] == "[]"

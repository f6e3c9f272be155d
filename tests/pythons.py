"""`make test-pythons`: build the wheel, and run unit and conformance tests from it on each Python that is here.

Each Python gets a fresh environment with the wheel in it, and runs the tests in a folder without `src`, so that only
what the wheel holds can be imported.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "pythons"
VERSIONS = ("3.11", "3.12", "3.13")
LEFT_OUT = shutil.ignore_patterns("src", ".venv", ".git", "build", "dist", "runs", "__pycache__", ".*_cache")


def interpreter(version: str) -> str | None:
    """A Python of that version that starts: from PATH, or from pyenv's folder."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [f"python{version}", *(str(each) for each in sorted(root.glob(f"versions/{version}.*/bin/python3")))]
    for candidate in candidates:
        try:
            done = subprocess.run(
                [candidate, "-c", "import sys, venv; print(sys.version)"], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            continue
        if done.returncode == 0 and done.stdout.startswith(version):
            return candidate
    return None


def build() -> Path:
    """The wheel, built anew."""
    shutil.rmtree(BUILD, ignore_errors=True)
    call(sys.executable, "-m", "build", "--wheel", "--outdir", str(BUILD), str(ROOT))
    [wheel] = BUILD.glob("*.whl")
    return wheel


def check(version: str, python: str, wheel: Path, constraints: Path) -> bool:
    """Install the wheel for one Python and run the tests from it."""
    here = BUILD / version
    work = here / "work"
    call(python, "-m", "venv", str(here / "venv"))
    own = str(here / "venv" / "bin" / "python")
    pip = (own, "-m", "pip", "install", "--quiet", "-c", str(constraints))
    call(*pip, f"{wheel}[engine,dev]")
    call(*pip, "--no-deps", "k-diffusion")
    shutil.copytree(ROOT, work, ignore=LEFT_OUT)
    where = subprocess.run(
        [own, "-c", "import safelight; print(safelight.__file__)"], cwd=work, check=True, capture_output=True, text=True
    ).stdout
    if str(here / "venv") not in where:
        sys.exit(f"The tests would not see the wheel but {where}")
    tests = [own, "-m", "pytest", "-q", "-m", "not slow", "-n", "2", "tests/unit", "tests/conformance"]
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(tests, cwd=work, env=environ, check=False).returncode == 0


def call(*command: str) -> None:
    """Run a command that must succeed."""
    print("+", *command, flush=True)
    subprocess.run(command, check=True)


def main() -> int:
    """Check every version that is here; the last line says which passed, which failed, which are absent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints" / "cpu.txt")
    parser.add_argument("versions", nargs="*", default=VERSIONS)
    asked = parser.parse_args()
    wheel = build()
    said = {}
    for version in asked.versions:
        python = interpreter(version)
        if python is None:
            said[version] = "not on this machine"
            continue
        said[version] = "passed" if check(version, python, wheel, asked.constraints.resolve()) else "FAILED"
    print("; ".join(f"Python {version}: {result}" for version, result in said.items()))
    return 0 if "passed" in said.values() and "FAILED" not in said.values() else 1


if __name__ == "__main__":
    sys.exit(main())

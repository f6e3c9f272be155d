"""`make test` counts what it ran, and cannot end well where something failed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from tests import suite


def test_a_command_is_one_check():
    assert suite.run(suite.Step("good", (sys.executable, "-c", ""))) == Counter(passed=1)
    assert suite.run(suite.Step("bad", (sys.executable, "-c", "raise SystemExit(3)"))) == Counter(failed=1)


@pytest.fixture
def reports(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "REPORTS", tmp_path)
    return tmp_path


def pytest_over(text: str, reports) -> Counter[str]:
    (reports / "test_it.py").write_text(text)
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(reports / "none.ini"))
    (reports / "none.ini").write_text("[pytest]\n")
    return suite.run(suite.Step("it", (*command, f"--junitxml={reports / 'it.xml'}", str(reports)), tests=True))


def test_tests_are_counted_by_their_report(reports):
    text = "import pytest\ndef test_a(): assert 1\n@pytest.mark.skip\ndef test_b(): assert 1\n"
    assert pytest_over(text, reports) == Counter(passed=1, skipped=1)
    assert pytest_over(text + "def test_c(): assert 0\n", reports) == Counter(passed=1, skipped=1, failed=1)


def test_a_run_that_breaks_off_is_a_failure(reports):
    assert pytest_over("import nothing_of_the_kind\n", reports)["failed"] == 1
    command = (sys.executable, "-c", "import os; os._exit(7)")
    assert suite.run(suite.Step("gone", command, tests=True)) == Counter(failed=1)


def test_the_closing_line_is_pytests():
    line = suite.closing_line(Counter(passed=812, failed=1, skipped=2), 734.5)
    assert line.strip("=") == " 1 failed, 812 passed, 2 skipped in 734.50s (0:12:14) "


def test_every_folder_of_tests_belongs_to_a_step():
    folders = {path.parent.relative_to(suite.ROOT).parts[1] for path in (suite.ROOT / "tests").rglob("test_*.py")}
    assert {f"tests/{folder}" for folder in folders} <= {*suite.BESIDE, *suite.ALONE}


def test_the_suite_refuses_a_step_it_does_not_know():
    command = [sys.executable, "tests/suite.py", "--only", "rough"]
    done = subprocess.run(command, cwd=suite.ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 2 and "ruff" in done.stderr

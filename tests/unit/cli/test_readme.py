"""What the README and the examples of the help say can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from safelight.cli import drawing
from safelight.cli.main import EXIT_CODES, safelight

README = (Path(__file__).resolve().parents[3] / "README.md").read_text("utf-8")
HELP = "\n".join(each.help for each in (drawing.generate, drawing.transform, drawing.inpaint))
LINES = sorted(set(re.findall(r"^\s*`?(safelight [^\n`]+)", f"{README}\n{HELP}", re.MULTILINE)))


@pytest.mark.parametrize("line", LINES)
def test_a_line_names_commands_and_options_that_there_are(line):
    command: click.Command = safelight
    context = click.Context(safelight, info_name="safelight")
    words = shlex.split(line, comments=True)[1:]
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command, context = found, click.Context(found, parent=context, info_name=found.name)
    _, rest, _ = command.make_parser(context).parse_args(words)
    assert not rest, line


def test_the_lines_are_found():
    assert len(LINES) >= 12


def test_the_exit_codes_are_those_of_the_program():
    said = re.search(r"Exit codes: (.*?)\.", README, re.DOTALL)
    assert said is not None
    assert [int(each) for each in re.findall(r"\d+", said[1])] == list(EXIT_CODES)

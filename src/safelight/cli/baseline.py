"""`safelight baseline`: pictures that are kept, and drawn again to see that they have not changed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from safelight.cli import listing
from safelight.cli.options import json_option
from safelight.errors import InvalidRequest, SafelightError, UnreadableFile

if TYPE_CHECKING:
    from safelight.cli.baselines.comparing import Outcome
    from safelight.cli.baselines.scenarios import Book, Case
    from safelight.client import Client

log = logging.getLogger(__name__)

Command = TypeVar("Command", bound=Callable[..., Any])


def _options(command: Command) -> Command:
    """What both commands take."""
    for option in reversed((
        click.option("--config", "config_file", required=True, metavar="FILE", help="The scenarios, in TOML.",
                     type=click.Path(exists=True, dir_okay=False, path_type=Path)),
        click.option("--scenario", "patterns", multiple=True, metavar="NAME",
                     help="Only this one, or those like euler-*; repeatable."),
        click.option("--dry-run", is_flag=True, help="Say what would be drawn, and draw nothing."),
        click.option("--continue-on-error", is_flag=True, help="Go on with the others where one fails."),
        click.option("--log-level", default="info", show_default=True, help="The least important line that is told.",
                     type=click.Choice(["debug", "info", "warning", "error"])),
    )):  # fmt: skip
        command = option(command)
    return json_option(command)


@click.group()
def baseline() -> None:
    """Keep golden pictures, and compare what is drawn now with them."""


@baseline.command()
@_options
@click.option("--output-dir", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
              help="Where to write, in place of the folder that FILE names.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace baselines that are there.")
def capture(config_file: Path, output_dir: Path | None, overwrite: bool, **how: Any) -> None:
    """Draw every scenario and keep it: a PNG with what made it inside, and what it took in a JSON file beside it.

    Where a scenario has a baseline already nothing is drawn, unless --overwrite is given. Any failure exits with 1.
    """
    from safelight.cli.baselines import drawing

    book, cases = _begin(config_file, how)
    folder = output_dir or book.folder
    there = [case.name for case in cases if case.file(folder).exists() or case.facts(folder).exists()]
    if there and not overwrite and not how["dry_run"]:
        click.echo(
            f"Error: there already, in {folder}: {', '.join(there)}.\nGive --overwrite to replace them.", err=True
        )
        raise click.exceptions.Exit(1)
    if how["dry_run"]:
        _list(cases, how["as_json"], lambda case: "replaces" if case.name in there else "new")
        return
    written: list[Case] = []

    def work(client: Client, case: Case) -> None:
        drawn = drawing.draw(client, case)
        drawing.keep(drawn, case, folder)
        written.append(case)
        log.info("%s: %.2f s", case.name, drawn.seconds)

    failed = _each(book, cases, how["continue_on_error"], work)
    if how["as_json"]:
        faults = {case.name: why for case, why in failed}
        listing.document({"folder": str(folder), "written": [case.name for case in written], "failed": faults})
    else:
        click.echo(f"{len(written)} of {len(cases)} baselines were written to {folder}.", err=bool(failed))
    _end(bool(failed))


@baseline.command()
@_options
@click.option("--output-dir", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
              default=Path("baseline-report"), show_default=True, help="Where the sheets go.")  # fmt: skip
def compare(config_file: Path, output_dir: Path, **how: Any) -> None:
    """Draw every scenario again and hold it against its baseline.

    Writes a sheet as JSON, Markdown and HTML, the last with the pictures side by side. Exits with 1 where a baseline
    does not hold, is missing, or is of no scenario.
    """
    from safelight.cli.baselines import sheet
    from safelight.cli.baselines.comparing import Outcome, orphans

    book, cases = _begin(config_file, how)
    if how["dry_run"]:
        _list(cases, how["as_json"], lambda case: "compares" if case.file(book.folder).exists() else "has no baseline")
        return
    outcomes: list[Outcome] = []

    def work(client: Client, case: Case) -> None:
        outcomes.append(_compare(client, case, book.folder))
        log.log(logging.INFO if outcomes[-1].passed else logging.ERROR, "%s: %s", case.name, sheet.line(outcomes[-1]))

    failed = _each(book, cases, how["continue_on_error"], work)
    outcomes += [Outcome(case, (f"it could not be drawn: {why}",)) for case, why in failed]
    outcomes += [Outcome(case, ("it was not drawn, for another failed before it",)) for case in cases[len(outcomes) :]]
    strays = orphans(book.folder, book.cases) if not how["patterns"] else []
    told, _, shown = sheet.write(outcomes, strays, output_dir)
    failing = bool(strays) or not all(each.passed for each in outcomes)
    if how["as_json"]:
        click.echo(told.read_text(encoding="utf-8"), nl=False)
    else:
        click.echo(f"{sheet.summary(outcomes, strays)}. See {shown}.", err=failing)
    _end(failing)


def _begin(config_file: Path, how: dict[str, Any]) -> tuple[Book, tuple[Case, ...]]:
    from safelight import logs
    from safelight.cli.baselines.scenarios import read
    from safelight.core.tables import build_tables
    from safelight.settings import load_settings

    logs.configure(how["log_level"])
    book = read(config_file, build_tables(load_settings().extensions.modules))
    return book, book.chosen(how["patterns"])


def _list(cases: tuple[Case, ...], as_json: bool, said: Callable[[Case], str]) -> None:
    rows = [(case.name, case.body["operation"], case.body["seed"], said(case)) for case in cases]
    if as_json:
        names = ("name", "operation", "seed", "state")
        listing.document({"scenarios": [dict(zip(names, row, strict=True)) for row in rows]})
    else:
        listing.columns(("SCENARIO", "OPERATION", "SEED", ""), rows)


def _each(
    book: Book, cases: tuple[Case, ...], go_on: bool, work: Callable[[Client, Case], None]
) -> list[tuple[Case, str]]:
    """Do `work` for every case on one server; those that failed, and why. The first is the last, unless `go_on`."""
    from safelight.cli.baselines.drawing import studio

    failed: list[tuple[Case, str]] = []
    with studio(book.settings) as client:
        for case in cases:
            try:
                work(client, case)
            except SafelightError as error:
                failed.append((case, f"{error.message} {error.hint}".strip()))
                log.error("%s: %s", case.name, failed[-1][1])
                if not go_on:
                    log.error("Stopped here; --continue-on-error goes on with the others.")
                    break
    return failed


def _compare(client: Client, case: Case, folder: Path) -> Outcome:
    from safelight.cli.baselines.comparing import Outcome, judge
    from safelight.cli.baselines.drawing import draw, kept

    try:
        baseline = kept(case, folder)
    except FileNotFoundError:
        return Outcome(case, ("there is no baseline: capture it, and look at it",))
    except (OSError, ValueError, KeyError, UnreadableFile, InvalidRequest) as error:
        return Outcome(case, (f"the baseline is not whole: {error}",))
    return judge(case, baseline, draw(client, case))


def _end(failed: bool) -> None:
    if failed:
        raise click.exceptions.Exit(1)

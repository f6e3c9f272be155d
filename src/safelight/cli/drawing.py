"""`safelight generate`, `transform`, `inpaint`: an operation each, with its fields as options."""

from __future__ import annotations

import json
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from safelight.cli import connection, following, saving

if TYPE_CHECKING:
    from safelight.cli.fields import FieldOption


class OperationCommand(click.Command):
    """A command that hands in an operation. Its options are read off the operation's fields when they are needed."""

    def __init__(self, operation: str, name: str, help: str) -> None:
        self.operation = operation
        own = [
            click.Option(
                ["-o", "--output", "destination"],
                metavar="FILE|FOLDER",
                help="Where to write; the ending says the format, a / at the end makes a folder. [default: here]",
            ),
            click.Option(["--json", "as_json"], is_flag=True, help="Print the job's record as JSON."),
            click.Option(
                ["--no-wait"], is_flag=True, help="Hand the job in, print its id and leave; `jobs watch` goes on."
            ),
        ]
        super().__init__(name, params=list(own), callback=self._run, help=help)

    @cached_property
    def options(self) -> list[FieldOption]:
        """The operation's fields as parameters."""
        from safelight.cli.fields import options_of
        from safelight.core.operations.contract import Contract, operation_table

        return options_of(Contract(operation_table()).spec(self.operation).request)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The fields' options, then the command's own."""
        return [*(each.parameter for each in self.options), *super().get_params(ctx)]

    def _run(self, *, destination: str | None, as_json: bool, no_wait: bool, **given: Any) -> None:
        """Hand the job in; follow it and write its pictures."""
        saving.check(destination)
        body = self._body(given, destination)
        if no_wait:
            _leave_it(body, as_json)
            return
        with connection.server(draws=True) as client:
            job = following.follow(client, client.submit(body))
            files = saving.save(client, job, destination)
        if as_json:
            click.echo(json.dumps(saving.record(job, files), indent=2, ensure_ascii=False))
        following.end(job)
        if not as_json:
            _show(job, [str(path) for path in files])

    def _body(self, given: dict[str, Any], destination: str | None) -> dict[str, Any]:
        """The submission, checked here so that nothing is started for what cannot be. InvalidRequest."""
        from safelight.cli.fields import fields_of
        from safelight.client.calls import body
        from safelight.core.operations.contract import Contract, operation_table

        fields = fields_of(self.options, given)
        asked = saving.format_of(destination)
        if asked is not None:
            fields["output"] = {"format": asked, **fields.get("output", {})}
        Contract(operation_table()).parse({"operation": self.operation, **fields})
        return body(self.operation, fields)


def _leave_it(body: dict[str, Any], as_json: bool) -> None:
    from safelight.client import Client

    with Client() as client:  # one started for this command would end with it
        job_id = client.submit(body)
        click.echo(json.dumps(client.job(job_id).fields, indent=2, ensure_ascii=False) if as_json else job_id)


def _show(job: Any, files: list[str]) -> None:
    """The files, a line each; on a terminal with seed and seconds."""
    seconds = job.fields["timings"].get("total", 0.0)
    for path, artifact in zip(files, job.artifacts, strict=True):
        click.echo(f"{path}  seed {artifact['seed']}  {seconds:.1f} s" if sys.stdout.isatty() else path)


generate = OperationCommand(
    "image.generate",
    "generate",
    """Text to image: draw what PROMPT says.

    \b
    safelight generate "a red house on green hills" -o house.png
    safelight generate "a boat" --seed 7 --steps 30 --sampler dpmpp_2m --schedule karras
    """,
)
transform = OperationCommand(
    "image.transform",
    "transform",
    """Image to image: redo a share of the schedule on a picture.

    \b
    safelight transform "the same house in winter" --image house.png --strength 0.6 -o winter.png
    """,
)
inpaint = OperationCommand(
    "image.inpaint",
    "inpaint",
    """Repaint the part of a picture where the mask is white.

    \b
    safelight inpaint "a blue house" --image house.png --mask mask.png -o blue.png
    """,
)

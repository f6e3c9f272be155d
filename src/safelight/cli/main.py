"""The command `safelight`. A command is a click command at the top of a module in this folder; nothing lists them.

A module of the command's name is looked at first, so `safelight config` imports `cli/config.py` and no other.
Modules of this folder import only click and what is light; heavy things are imported inside a command.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator, Mapping

import click

from safelight import __version__, cli
from safelight.errors import InvalidRequest, SafelightError

EXIT_CODES: Mapping[int, str] = {
    0: "done",
    1: "it failed, or what was looked for is not so",
    2: "the command line, the request or the settings cannot be: nothing was started",
    3: "no server answers, or none can do it",
    4: "the job was cancelled",
    130: "interrupted",
}
"""Exit codes of every command."""

_KINDS = {
    "invalid_request": 2,
    "invalid_settings": 2,
    "operation_unavailable": 3,
    "server_not_running": 3,
    "worker_unavailable": 3,
}


def modules() -> list[str]:
    """The modules of this folder, by name, without this one."""
    return sorted(each.name for each in pkgutil.iter_modules(cli.__path__) if each.name != "main")


def commands_in(module: str) -> dict[str, click.Command]:
    """The commands that a module of this folder offers: those at its top that belong to no group there."""
    found = vars(importlib.import_module(f"{cli.__name__}.{module}")).values()
    offered = [each for each in found if isinstance(each, click.Command)]
    inner = {id(each) for group in offered if isinstance(group, click.Group) for each in group.commands.values()}
    return {each.name or module: each for each in offered if id(each) not in inner}


class Folder(click.Group):
    """A group whose commands are found in this folder when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, sorted."""
        return sorted({name for module in modules() for name in commands_in(module)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        own = cmd_name.replace("-", "_")
        for module in self._nearest_first(own):
            if (found := commands_in(module).get(cmd_name)) is not None:
                return found
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; an unknown command is answered with the nearest ones."""
        from safelight.core.names import nearest

        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = nearest(args[0], self.list_commands(ctx))
            hint = f" Did you mean {', '.join(near)}?" if near else " See `safelight --help`."
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    @staticmethod
    def _nearest_first(own: str) -> Iterator[str]:
        names = modules()
        return iter(sorted(names, key=lambda name: name != own))


@click.group(cls=Folder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="safelight")
def safelight() -> None:
    """Diffusion images from a server of your own: durable jobs, shared passes, shared models."""


def _said(error: SafelightError) -> Iterator[str]:
    """What happened and the way out; everything that is wrong with a request, each with its own."""
    if not isinstance(error, InvalidRequest):
        yield from filter(None, (f"Error: {error.message}", error.hint))
        return
    for each in error.errors:
        yield from filter(None, (f"Error: {each.path}: {each.message}" if each.path else f"Error: {each.message}",
                                 each.hint))  # fmt: skip


def main() -> None:
    """The entry point: runs the command, and says in words what went wrong. Exits with one of EXIT_CODES."""
    try:
        code = safelight.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except SafelightError as error:
        for line in _said(error):
            click.echo(line, err=True)
        code = _KINDS.get(error.kind, 1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        code = 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)

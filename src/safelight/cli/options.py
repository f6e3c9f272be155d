"""Options that commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from safelight.settings import Settings, load_settings

Command = TypeVar("Command", bound=Callable[..., Any])


class Argument(click.Argument):
    """A positional argument that says what it is; click has taken `help` for arguments since 8.5 only."""

    def __init__(self, param_decls: Sequence[str], *, help: str, **attrs: Any) -> None:
        super().__init__(param_decls, **attrs)
        self.help = help


def settings_options(command: Command) -> Command:
    """Adds --config and --set; the function gets `settings: Settings`, or the command ends with InvalidSettings."""

    @click.option("--config", "config_file", type=click.Path(path_type=Path), help="Settings file to read.")
    @click.option("--set", "overrides", multiple=True, metavar="SECTION.NAME=VALUE", help="Give a setting; repeatable.")
    @wraps(command)
    def with_settings(*args: Any, config_file: Path | None, overrides: tuple[str, ...], **kwargs: Any) -> Any:
        settings: Settings = load_settings(file=config_file, overrides=overrides)
        return command(*args, settings=settings, **kwargs)

    return with_settings  # type: ignore[return-value]


def json_option(command: Command) -> Command:
    """Adds --json; the function gets `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")(command)

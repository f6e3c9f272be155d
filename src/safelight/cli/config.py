"""`safelight config`: what the settings are, where each was given, and whether they can be."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from safelight.cli.options import json_option, settings_options
from safelight.settings import InvalidSettings, Origin, Settings, load_settings, setting_table
from safelight.settings.fields import toml_value
from safelight.settings.render import default_file, page
from safelight.settings.table import plain, sections


@click.group()
def config() -> None:
    """Show, check and explain the settings."""


@config.command()
@click.option("--origin", is_flag=True, help="Say where each value was given.")
@json_option
@settings_options
def show(settings: Settings, origin: bool, as_json: bool) -> None:
    """Print every setting as it holds here, as TOML or JSON."""
    if as_json:
        click.echo(json.dumps(_described(settings, origin), indent=2, ensure_ascii=False))
        return
    click.echo(f"# environment: {settings.environment}\n# file: {settings.file or 'none'}")
    for section in sections():
        click.echo(f"\n[{section}]")
        for each in setting_table().values():
            if each.section == section:
                line = f"{each.name} = {toml_value(settings.value(each.key))}"
                click.echo(f"{line:<40} # {settings.origins.get(each.key, Origin())}" if origin else line)


@config.command()
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Settings file to read.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.NAME=VALUE", help="Give a setting; repeatable.")
@json_option
@click.pass_context
def check(ctx: click.Context, config_file: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say everything that is wrong with the settings; exits 1 if anything is."""
    faults: list[dict[str, Any]] = []
    try:
        load_settings(file=config_file, overrides=overrides)
    except InvalidSettings as error:
        faults = [dataclasses.asdict(fault) for fault in error.faults]
        if not as_json:
            click.echo(error.message)
    if as_json:
        click.echo(json.dumps({"valid": not faults, "faults": faults}, indent=2, ensure_ascii=False))
    elif not faults:
        click.echo("The settings are good.")
    ctx.exit(1 if faults else 0)


@config.command()
@click.option("--toml", is_flag=True, help="As a commented settings file.")
@json_option
def docs(toml: bool, as_json: bool) -> None:
    """Print every setting with its default, what is allowed, and what it does."""
    if as_json:
        table = [
            {
                "setting": each.key,
                "variable": each.variable,
                "default": plain(each.default_here()),
                "allowed": each.allowed,
                "help": each.help,
            }
            for each in setting_table().values()
        ]
        click.echo(json.dumps(table, indent=2, ensure_ascii=False))
    else:
        click.echo(default_file() if toml else page(), nl=False)


def _described(settings: Settings, origin: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "environment": settings.environment,
        "file": None if settings.file is None else str(settings.file),
        "settings": settings.values(),
    }
    if origin:
        described["origins"] = {key: str(settings.origins.get(key, Origin())) for key in setting_table()}
    return described

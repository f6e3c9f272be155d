"""`safelight samplers` and `schedules`: the methods by their names, with their parameters."""

from __future__ import annotations

from typing import Any

import click

from safelight.cli import connection, listing
from safelight.cli.options import json_option


@click.command()
@json_option
def samplers(as_json: bool) -> None:
    """List the samplers and their parameters (--sampler, --sampler-option)."""
    with connection.server() as client:
        _show("samplers", client.samplers(), as_json)


@click.command()
@json_option
def schedules(as_json: bool) -> None:
    """List the schedules and their parameters (--schedule, --schedule-option)."""
    with connection.server() as client:
        _show("schedules", client.schedules(), as_json)


def _show(name: str, records: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        listing.document({name: records})
        return
    rows = []
    for each in records:
        parameters = ", ".join(f"{one['name']}={one['default']}" for one in each["parameters"])
        rows.append((each["id"], each["label"], ", ".join(each["aliases"]), parameters))
    listing.columns(("ID", "NAME", "ALSO", "PARAMETERS"), rows)

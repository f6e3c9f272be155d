"""`safelight serve`, `stop`, `status`: the server on the data folder."""

from __future__ import annotations

from pathlib import Path

import click

from safelight.cli import listing
from safelight.cli.options import json_option
from safelight.errors import ServerNotRunning
from safelight.settings import load_settings


@click.command()
@click.option("--host", help="Address to listen on; the same as --set server.host=...")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on, 0 for any free one.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.NAME=VALUE", help="Give a setting; repeatable.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Settings file to read.")
@click.option("--detach", is_flag=True, help="Start it in the background, return when it is ready.")
@click.option("--json", "as_json", is_flag=True, help="With --detach: answer in JSON.")
def serve(host: str | None, port: int | None, overrides: tuple[str, ...], config_file: Path | None, *, detach: bool,
          as_json: bool) -> None:  # fmt: skip
    """Serve until Ctrl-C, or in the background; one server a data folder, and a second start finds the first."""
    if as_json and not detach:
        raise click.UsageError("--json needs --detach: a server in the foreground has no answer to give.")
    given = (("server.host", host), ("server.port", port))
    short = tuple(f"{name}={value}" for name, value in given if value is not None)
    settings = load_settings(file=config_file, overrides=(*overrides, *short))
    if not detach:
        from safelight.server.serve import run

        run(settings)
        return
    from safelight.client import address, launch

    there = address.read(settings.storage.home)
    here = launch.start(settings)
    started = there is None or there.pid != here.pid
    if as_json:
        listing.document({"url": here.url, "pid": here.pid, "started": started})
    else:
        click.echo(f"Safelight {'serves' if started else 'is serving already at'} {here.url} (pid {here.pid}).")


@click.command()
@json_option
def stop(as_json: bool) -> None:
    """Stop the local server. Jobs that were accepted go on at its next start."""
    from safelight.client import Client, address

    home = load_settings().storage.home
    there = address.read(home)
    if there is None:
        raise ServerNotRunning(f"No server runs on {home}.", "There is nothing to stop.")
    with Client(home=home) as client:
        client.shutdown()
    if as_json:
        listing.document({"url": there.url, "pid": there.pid, "stopped": True})
    else:
        click.echo(f"Stopped the server at {there.url} (pid {there.pid}).")


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Say where the server is, what its workers do and how many jobs there are; exits 3 where none runs."""
    from safelight.client import Client

    with Client() as client:
        found = {"url": client.url, **client.system()}
    if as_json:
        listing.document(found)
        return
    listing.facts({"url": found["url"], "version": found["version"], "pid": found["pid"],
                   "up": f"{found['uptime_s']:.0f} s", "data folder": found["home"],
                   "default model": found["default_model"], "jobs": found["jobs"]})  # fmt: skip
    for each in found["workers"]:
        free = f", {listing.size(each['bytes_free'])} free" if each["bytes_free"] else ""
        at = f" on {each['device_name'] or each['device']} in {each['dtype']}{free}" if each["pid"] else ""
        click.echo(f"worker {each['id']}: {each['state']}{at}, {len(each['jobs'])} open")

"""The server that a command talks to: SAFELIGHT_URL's, else the local one, else one of its own for the time it runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from safelight.errors import ServerNotRunning
from safelight.settings import Settings, load_settings, settings_of

if TYPE_CHECKING:
    from safelight.client import Client

_LISTENS_S = 60.0


@contextmanager
def server(*, draws: bool = False) -> Iterator[Client]:
    """A client of the server to use; one that is started for the command is stopped at its end, unless others use it.

    `draws`: wait until a server that is started can draw, not only answer. ServerNotRunning where SAFELIGHT_URL names
    one that does not answer.
    """
    from safelight.client import Client, address

    local = address.read(load_settings().storage.home)
    if os.environ.get("SAFELIGHT_URL") or (local is not None and local.url):
        with Client() as client:
            yield client
        return
    settings = on_any_port(load_settings())
    url = _started(settings, draws)
    with Client(home=settings.storage.home) as client:
        click.echo(f"No server runs; started one at {url} for this command.", err=True)
        try:
            yield client
        finally:
            _leave(client)


def on_any_port(settings: Settings, **storage: str) -> Settings:
    """The same settings for a server that takes any free port. `storage`: other values of that section."""
    values = settings.values()
    values["server"]["port"] = 0
    values["storage"].update(storage)
    return settings_of(values, settings.environment)


def _started(settings: Settings, draws: bool) -> str:
    from safelight.client import address, launch

    home = settings.storage.home
    if draws:
        return launch.start(settings).url
    process = launch.spawn(settings)
    deadline = time.monotonic() + _LISTENS_S
    while time.monotonic() < deadline and process.poll() is None:
        here = address.read(home)
        if here is not None and here.url:
            return here.url
        time.sleep(launch.POLL_S)
    raise ServerNotRunning(f"No server could be started on {home}.", f"{home / launch.LOG_NAME} says why.")


def _leave(client: Client) -> None:
    """Stop the server of this command, unless somebody's jobs are there meanwhile."""
    jobs = client.system()["jobs"]
    waiting = int(jobs.get("queued", 0)) + int(jobs.get("running", 0))
    if waiting:
        said = "another job is" if waiting == 1 else f"{waiting} other jobs are"
        click.echo(f"The server stays, for {said} there; `safelight stop` ends it.", err=True)
    else:
        client.shutdown()

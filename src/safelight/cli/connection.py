"""The server that a command talks to: SAFELIGHT_URL's, else the local one, else one of its own for the time it runs."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from safelight.errors import ServerNotRunning
from safelight.settings import Settings, load_settings, settings_of

if TYPE_CHECKING:
    from safelight.client import Client
    from safelight.client.address import Address

START_S = 60.0
"""A server of the command's own must answer by then."""


@contextmanager
def server(*, draws: bool = False, home: Path | None = None) -> Iterator[Client]:
    """A client of the server to use.

    `draws`: wait until a server that is started can draw, not only answer. `home`: the data folder of one that is
    started, the settings' own if None. ServerNotRunning where SAFELIGHT_URL names one that does not answer.
    """
    from safelight.client import Client, address

    settings = load_settings()
    local = address.read(settings.storage.home)
    if os.environ.get("SAFELIGHT_URL") or (local is not None and local.url):
        with Client() as client:
            yield client
        return
    with _own(_on_any_port(settings, home or settings.storage.home), draws) as client:
        yield client


@contextmanager
def apart(changed: Mapping[str, Any], home: Path) -> Iterator[Client]:
    """A client of a server of the command's own on the folder `home`, that can draw; SAFELIGHT_URL's where that is set.

    `changed`: settings that are not this machine's, by "section.name". It knows the models of this machine.
    """
    from safelight.client import Client

    if os.environ.get("SAFELIGHT_URL"):
        with Client() as client:
            yield client
        return
    settings = load_settings(overrides=[f"{name}={value}" for name, value in changed.items()])
    values = _on_any_port(settings, home).values()
    values["models"]["folders"] += [str(settings.storage.home / "models")]
    values["models"]["lora_folders"] += [str(settings.storage.home / "loras")]
    with _own(settings_of(values, settings.environment), draws=True) as client:
        yield client


def _on_any_port(settings: Settings, home: Path) -> Settings:
    """The same settings for a server on `home` that takes any free port, for the usual one may be another folder's,
    and runs what is handed to it alone: jobs that wait for a server of their own go on waiting."""
    values = settings.values()
    values["server"]["port"] = 0
    values["jobs"]["take_up"] = False
    values["storage"]["home"] = str(home)
    return settings_of(values, settings.environment)


@contextmanager
def _own(settings: Settings, draws: bool) -> Iterator[Client]:
    """A server that is there for this command, and is stopped at its end unless others use it."""
    from safelight.client import Client, launch

    home = settings.storage.home
    process = launch.spawn(settings)
    try:
        here = _answering(process, home, draws)
    except BaseException:  # an interrupt too must not leave it behind
        process.terminate()
        raise
    with Client(home=home) as client:
        if here.pid != process.pid:  # another command was faster: the server is its own
            process.wait()
            yield client
            return
        click.echo(f"No server runs; started one at {here.url} for this command.", err=True)
        try:
            yield client
        finally:
            _leave(client, here)


def _answering(process: subprocess.Popen[bytes], home: Path, draws: bool) -> Address:
    """The server on `home` once it answers; ServerNotRunning where the one that was started ends or takes too long."""
    from safelight.client import address, launch

    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        here = address.read(home)
        if here is not None and here.url and not (draws and launch.unready(here.url)):
            return here
        if ended and here is None:
            break
        time.sleep(launch.POLL_S)
    raise ServerNotRunning(f"No server could be started on {home}.", f"{home / launch.LOG_NAME} says why.")


def _leave(client: Client, here: Address) -> None:
    """Stop the server of this command, unless somebody's jobs have come meanwhile. One that has died is left at that:
    what the command met when it died is the error to tell."""
    try:
        there = [job for state in ("queued", "running") for job in client.jobs(state=state, limit=200)]
    except ServerNotRunning:
        return
    if waiting := sum(job.fields["created_at"] >= here.born for job in there):
        said = "another job is" if waiting == 1 else f"{waiting} other jobs are"
        click.echo(f"The server stays, for {said} there; `safelight stop` ends it.", err=True)
    else:
        client.shutdown()

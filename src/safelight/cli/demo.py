"""`safelight demo`: a real server, a real job, a picture on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from safelight.cli import connection, following, listing, saving
from safelight.cli.options import Argument, json_option
from safelight.settings import load_settings

if TYPE_CHECKING:
    from safelight.client import Client

PROMPT = "a red house on green hills under a starry night sky with a full moon"


@click.command()
@click.argument(
    "prompt", cls=Argument, default=PROMPT, help="What the picture shows; a sentence of the demo's own if not given."
)
@click.option("-o", "--output", "destination", default="safelight-demo.png", show_default=True, metavar="FILE|FOLDER",
              help="Where to write the picture.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="The seed; random if not given.")
@json_option
def demo(prompt: str, destination: str, seed: int | None, as_json: bool) -> None:
    """Start a server, draw a picture with the model that ships, say where it is, and stop the server again."""
    saving.check(destination)
    began = time.monotonic()
    fields = {"operation": "image.generate", "prompt": prompt, "seed": seed}
    output = saving.format_of(destination)
    with _server() as client:
        body = {name: value for name, value in fields.items() if value is not None}
        job_id = client.submit({**body, "output": {"format": output}} if output else body)
        job = following.follow(client, job_id)
        files = saving.save(client, job, destination)
    seconds = time.monotonic() - began
    if as_json:
        listing.document({**saving.record(job, files), "seconds": round(seconds, 3)})
    following.end(job)
    if not as_json:
        drawn = job.fields["timings"]["total"]
        click.echo(f"{prompt}\n{files[0]}  seed {job.resolved['seed']}  {seconds:.1f} s, {drawn:.1f} s of it the job")


@contextmanager
def _server() -> Iterator[Client]:
    """The server that runs, or one of the demo's own: another data folder, any free port, stopped at the end."""
    from safelight.client import Client, address, launch

    settings = load_settings()
    there = address.read(settings.storage.home)
    if os.environ.get("SAFELIGHT_URL") or (there is not None and there.url):
        with Client() as client:
            yield client
        return
    folder = settings.storage.home / "demo"
    here = launch.start(connection.on_any_port(settings, home=str(folder)))
    click.echo(f"Started a server at {here.url} (pid {here.pid}).", err=True)
    with Client(home=folder) as client:
        try:
            yield client
        finally:
            client.shutdown()

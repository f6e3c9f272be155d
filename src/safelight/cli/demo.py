"""`safelight demo`: a real server, a real job, a picture on disk."""

from __future__ import annotations

import time

import click

from safelight.cli import connection, following, listing, saving
from safelight.cli.options import Argument, json_option
from safelight.settings import load_settings

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
    with connection.server(draws=True, home=load_settings().storage.home / "demo") as client:
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

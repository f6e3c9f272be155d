"""`safelight jobs`: what was handed in, and how it goes."""

from __future__ import annotations

import sys
from typing import Any

import click

from safelight.cli import connection, following, listing, saving
from safelight.cli.options import Argument, json_option

STATES = ("queued", "running", "paused", "succeeded", "failed", "cancelled")

job_argument = click.argument("job_id", metavar="ID", cls=Argument, help="The job's id, as `jobs list` shows it.")


@click.group()
def jobs() -> None:
    """List, show, watch, cancel and retry jobs."""


@jobs.command("list")
@click.option("--state", multiple=True, type=click.Choice(STATES), help="Those in this state; repeatable.")
@click.option("--operation", help="Those of this operation, such as image.generate.")
@click.option("--tag", help="Those with this tag.")
@click.option("--before", metavar="ID", help="Those handed in before this job: the next page.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="At most this many.")
@json_option
def list_(as_json: bool, state: tuple[str, ...], **filters: Any) -> None:
    """List jobs, newest first."""
    with connection.server() as client:
        found = client.jobs(state=list(state) or None, **filters)
    if as_json:
        listing.document({"jobs": [each.fields for each in found]})
        return
    names = ("ID", "STATE", "OPERATION", "HANDED IN", "PROMPT")
    listing.columns(names, ((each.id, each.state, each.operation, listing.clock(each.fields["created_at"]),
                             listing.short(str(each.resolved.get("prompt", "")))) for each in found))  # fmt: skip


@jobs.command()
@job_argument
@json_option
def show(job_id: str, as_json: bool) -> None:
    """Show a job: its complete request, its attempts, its pictures."""
    with connection.server() as client:
        job = client.job(job_id)
    if as_json:
        listing.document(job.fields)
        return
    fields = job.fields
    times = {name: listing.clock(fields[name]) for name in ("created_at", "started_at", "ended_at")}
    seconds = {name: round(value, 3) for name, value in fields["timings"].items()}
    listing.facts({"id": job.id, "operation": job.operation, "state": job.state, "priority": fields["priority"],
                   "tags": fields["tags"], "retry_of": fields["retry_of"], **times, "seconds": seconds,
                   "failure": job.failure})  # fmt: skip
    click.echo("\nrequest, complete:")
    listing.facts({name: value for name, value in job.resolved.items() if name != "operation"})
    if fields["plan"]:
        click.echo("\nplan, by which the same pixels come out again:")
        listing.facts(fields["plan"])
    for attempt in fields["attempts"]:
        said = f"attempt {attempt['number']} on {attempt['worker']}: {attempt['end'] or 'running'}"
        click.echo(f"\n{said}" + (f", {attempt['message']}" if attempt["message"] else ""))
    for artifact in job.artifacts:
        sides = f"{artifact['width']}x{artifact['height']}"
        click.echo(f"\npicture {artifact['id']}: {sides} {artifact['media_type']}, seed {artifact['seed']}")


@jobs.command()
@job_argument
@json_option
def cancel(job_id: str, as_json: bool) -> None:
    """Cancel a job: at once while it waits, at its next step while it runs."""
    with connection.server() as client:
        job = client.cancel(job_id)
    if as_json:
        listing.document(job.fields)
    else:
        asked = "" if job.over else "; it ends at its next step"
        click.echo(f"Job {job.id} is {job.state}{asked}.")


@jobs.command()
@job_argument
@json_option
def retry(job_id: str, as_json: bool) -> None:
    """Hand a job in again that is over: the same complete request, seed included. Prints the new job's id."""
    from safelight.client import Client

    with Client() as client:  # one started for this command would end before the job does
        new = client.retry(job_id)
        if as_json:
            listing.document(client.job(new).fields)
        else:
            click.echo(new)


@jobs.command()
@job_argument
@click.option("-o", "--output", "destination", metavar="FILE|FOLDER", help="Write its pictures there at its end.")
@json_option
def watch(job_id: str, destination: str | None, as_json: bool) -> None:
    """Follow a job to its end; Ctrl-C leaves it running."""
    saving.check(destination)
    with connection.server(draws=True) as client:
        job = following.follow(client, job_id, cancel=False)
        files = saving.save(client, job, destination) if destination is not None else []
    if as_json:
        listing.document(saving.record(job, files))
    following.end(job)
    if not as_json:
        for path in files:
            click.echo(path)
        if sys.stdout.isatty() or not files:
            click.echo(f"Job {job.id} is {job.state}.", err=bool(files))

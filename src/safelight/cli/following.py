"""Following a job to its end: progress bars on a terminal, silence elsewhere; Ctrl-C cancels what it follows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from safelight.client import Client, Event, Job

CANCELLED = 4
"""The exit code where the job was cancelled."""


def follow(client: Client, job_id: str, *, cancel: bool = True, after: int = 0) -> Job:
    """The job once it is over. On a terminal its progress is shown (standard error), elsewhere its warnings alone.

    `cancel`: an interrupt cancels the job before it goes up. `after`: the last event that was seen.
    """
    try:
        with _bars() as bars:
            for event in client.stream(job_id, after=after):
                if bars is not None:
                    bars.tell(event)
                elif event.kind == "warning":
                    click.echo(f"Warning: {event.data.get('message', '')}", err=True)
    except KeyboardInterrupt:
        if cancel:
            click.echo(f"Cancelling job {job_id}.", err=True)
            client.cancel(job_id)
            for _ in client.stream(job_id):
                pass
        raise
    return client.job(job_id)


def end(job: Job) -> None:
    """Nothing for a job that succeeded; else says how it ended, and exits the command with that code."""
    if job.state == "succeeded":
        return
    failure = job.failure or {}
    click.echo(f"Job {job.id} is {job.state}. {failure.get('message', '')}".rstrip(), err=True)
    if failure.get("hint"):
        click.echo(failure["hint"], err=True)
    raise click.exceptions.Exit(CANCELLED if job.state == "cancelled" else 1)


class Bars:
    """What a job's events look like: a line that says where it is, and a bar for each picture."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._state = progress.add_task("waiting", total=None)
        self._pictures: dict[Any, TaskID] = {}
        self._loading: dict[str, TaskID] = {}

    def tell(self, event: Event) -> None:
        """Show an event."""
        data = event.data
        if event.kind == "queued":
            position = data.get("position") or 0
            self._say(f"queued, place {position}" if position else "queued")
        elif event.kind == "started":
            self._say("goes on where it was" if data.get("resumed") else "started")
        elif event.kind == "loading":
            self._load(data)
        elif event.kind == "step":
            self._step(data)
        elif event.kind == "retry":
            self._progress.console.print(f"Again: {data.get('message', '')}", markup=False)
        elif event.kind == "warning":
            self._progress.console.print(f"Warning: {data.get('message', '')}", markup=False)

    def _say(self, text: str) -> None:
        self._progress.update(self._state, description=text, visible=True)

    def _load(self, data: Any) -> None:
        """A bar in MiB, until the component is there."""
        name, done, total = data["component"], data["bytes_done"], data["bytes_total"]
        if name not in self._loading:
            self._progress.update(self._state, visible=False)
            self._loading[name] = self._progress.add_task(f"loading {name}, MiB", total=max(1, total >> 20))
        self._progress.update(self._loading[name], completed=done >> 20)
        if done >= total:
            self._progress.remove_task(self._loading.pop(name))

    def _step(self, data: Any) -> None:
        self._progress.update(self._state, visible=False)
        picture = data["picture"]
        if picture not in self._pictures:
            self._pictures[picture] = self._progress.add_task(f"picture {len(self._pictures) + 1}")
        self._progress.update(self._pictures[picture], completed=data["step"], total=data["steps"])


@contextmanager
def _bars() -> Iterator[Bars | None]:
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bars(progress)

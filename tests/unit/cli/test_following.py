"""What a terminal shows of a job's events."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from safelight.cli.following import Bars
from safelight.client import Event


@pytest.fixture
def progress() -> Progress:
    return Progress(console=Console(file=io.StringIO()), disable=True)


def told(kind: str, **data: object) -> Event:
    return Event("job", kind, 1, 1, 0.0, data)


def loading(done: int, total: int) -> Event:
    return told("loading", component="big/network", bytes_done=done << 20, bytes_total=total << 20)


def test_a_loading_has_a_bar_in_mebibytes_until_it_is_over(progress):
    bars = Bars(progress)
    bars.tell(loading(0, 1640))
    bars.tell(loading(820, 1640))
    [shown] = [task for task in progress.tasks if task.visible]
    assert shown.description == "loading big/network, MiB"
    assert (shown.completed, shown.total) == (820, 1640)
    bars.tell(loading(1640, 1640))
    assert [task for task in progress.tasks if task.visible] == []
    bars.tell(told("step", picture=0, step=1, steps=4))
    assert [(task.completed, task.total) for task in progress.tasks if task.visible] == [(1, 4)]

"""A server that can be harmed: the extension `harm` is in it, and it takes a worker for hung after a second.

Checkpoints after every step. One for all tests here that do not harm the server itself: starting one takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.acceptance.real_server import RealServer

HARMFUL = {"extensions.modules": ["tests.faults.harm"], "jobs.hang_s": 1.0}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Ready, with the model in memory."""
    with RealServer(tmp_path_factory.mktemp("harmed") / "home", **HARMFUL) as running:
        running.finished(running.submit(steps=1))
        yield running

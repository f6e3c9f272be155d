"""A client that reads one job's stream to its end, whoever is killed meanwhile: it comes back with `Last-Event-ID`."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from safelight.client import address

LAST = {"succeeded", "failed", "cancelled"}
AGAIN_S = 0.05


class Follower:
    """Reads the events of a job of the server at `home`, on a thread of its own. `events`: those with a number, in the
    order in which they came, over all connections; `connections`: how many brought any."""

    def __init__(self, home: Path, job_id: str, patience_s: float) -> None:
        self.events: list[dict[str, Any]] = []
        self.connections = 0
        self._home, self._job_id = home, job_id
        self._until = time.monotonic() + patience_s
        self._thread = threading.Thread(target=self._run, name=f"follows {job_id}", daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.join()

    def _run(self) -> None:
        while time.monotonic() < self._until and not (self.events and self.events[-1]["kind"] in LAST):
            before = len(self.events)
            with contextlib.suppress(httpx.TransportError):  # the server was killed; the next one goes on from here
                self._read()
            self.connections += len(self.events) > before
            time.sleep(AGAIN_S)

    def _read(self) -> None:
        """One connection: until it breaks or ends. A job that nobody knows yet is asked for again."""
        here = address.read(self._home)
        if here is None or not here.url:
            return
        last = {"Last-Event-ID": str(self.events[-1]["number"])} if self.events else {}
        with httpx.stream("GET", f"{here.url}/v1/jobs/{self._job_id}/stream", headers=last, timeout=20.0) as stream:
            if stream.status_code != 200:
                return
            numbered = False
            for line in stream.iter_lines():
                if line.startswith("id: "):
                    numbered = True
                elif line.startswith("data: ") and numbered:
                    self.events.append(json.loads(line.removeprefix("data: ")))
                elif not line:
                    numbered = False

    def differs(self, stored: list[dict[str, Any]]) -> list[str]:
        """What it was told otherwise than what is stored, in words."""
        told = [event["number"] for event in self.events]
        if told != [event["number"] for event in stored]:
            return [f"its stream, read over {self.connections} connections, told of {told}, {len(stored)} are stored"]
        return [
            f"its stream told {told} for {kept}" for told, kept in zip(self.events, stored, strict=True) if told != kept
        ]

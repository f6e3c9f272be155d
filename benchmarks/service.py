"""A server in a process of its own, as it is run, and a client that costs little beside it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from safelight.client import address, launch
from safelight.settings import settings_of

PATIENCE_S = 120.0
PROMPT = {"operation": "image.generate", "prompt": "a red house on green hills under a clear blue sky"}
Values = dict[str, dict[str, Any]]


class Service:
    """A server on its own data folder and a free port."""

    def __init__(self, home: Path, values: Values | None = None) -> None:
        self.home = home
        said: Values = {"storage": {"home": str(home)}, "server": {"port": 0}, "jobs": {}}
        for section, fields in (values or {}).items():
            said[section] = {**said.get(section, {}), **fields}
        self._settings = settings_of(said, "production")
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client()

    def start(self) -> float:
        """Start the process; seconds until it is listening, as a client sees it that polls its `server.json`."""
        began = time.perf_counter()
        self.process = launch.spawn(self._settings)
        while (here := address.read(self.home)) is None or here.pid != self.process.pid or not here.url:
            if self.process.poll() is not None or time.perf_counter() - began > PATIENCE_S:
                raise RuntimeError(f"The server did not start: {(self.home / launch.LOG_NAME).read_text()[-2000:]}")
            time.sleep(0.005)
        self.http.close()
        self.http = httpx.Client(base_url=here.url, timeout=PATIENCE_S)
        return time.perf_counter() - began

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self.http.base_url).rstrip("/")

    @property
    def pid(self) -> int:
        """Of the server's process."""
        assert self.process is not None
        return self.process.pid

    def stop(self) -> None:
        """End it in order."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE_S)
        self.http.close()

    def kill(self) -> None:
        """SIGKILL the server."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def submit(self, body: dict[str, Any] | None = None, **more: Any) -> str:
        """An accepted job's id."""
        answer = self.http.post("/v1/jobs", json={**PROMPT, **(body or {}), **more}).raise_for_status()
        return str(answer.json()["id"])

    def run(self, body: dict[str, Any]) -> dict[str, Any]:
        """A job's record, once it is over; RuntimeError where it made nothing."""
        record: dict[str, Any] = self.http.post("/v1/jobs", params={"wait": PATIENCE_S}, json={**PROMPT, **body}).json()
        if record.get("state") != "succeeded":
            raise RuntimeError(f"The job made nothing: {record}")
        return record

    def worker_pid(self) -> int:
        """The ready worker's pid, once there is one."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for worker in self.http.get("/v1/system").json()["workers"]:
                if worker["pid"] and worker["state"] == "ready":
                    return int(worker["pid"])
            time.sleep(0.02)
        raise RuntimeError("No worker got ready.")

    def wait_for_step(self, job_id: str, attempt: int) -> None:
        """Return once that attempt (or a later one) of the job has told of a step."""
        begun = 0
        with self.http.stream("GET", f"/v1/jobs/{job_id}/stream") as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    event = json.loads(line.removeprefix("data:"))
                    begun = event["data"]["attempt"] if event["kind"] == "started" else begun
                    if event["kind"] == "step" and begun >= attempt:
                        return
        raise RuntimeError(f"The job ended before a step of attempt {attempt}.")

    @contextmanager
    def paused_worker(self) -> Iterator[None]:
        """The worker stands still within. Its lease must be longer than that."""
        pid = self.worker_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def service(home: Path, values: Values | None = None) -> Iterator[Service]:
    """A running server, stopped at the end."""
    made = Service(home, values)
    made.start()
    try:
        yield made
    finally:
        made.stop()


class Client(asyncio.Protocol):
    """A keep-alive HTTP connection that reads no more of an answer than its status and length."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[int] | None = None
        self._heard = bytearray()

    @classmethod
    async def connect(cls, url: str) -> Client:
        """Connected to the server at `url`."""
        where = urlsplit(url)
        _, client = await asyncio.get_running_loop().create_connection(cls, where.hostname, where.port)
        return client

    async def ask(self, request: bytes) -> int:
        """Send a whole request; the answer's status once all of it is here."""
        assert self._transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answered

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio."""
        self._heard += data
        end = self._heard.find(b"\r\n\r\n")
        if end < 0 or self._answered is None:
            return
        head = bytes(self._heard[:end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(self._heard) >= end + 4 + length:
            self._heard.clear()
            self._answered.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or ConnectionResetError("the server hung up"))


def request(url: str, method: str, path: str, body: bytes = b"") -> bytes:
    """A request's bytes."""
    kind = b"Content-Type: application/json\r\n" if body else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Length: {len(body)}\r\n".encode()
    return head + kind + b"\r\n" + body

"""Event streams held at once, and how soon the server answers meanwhile."""

from __future__ import annotations

import asyncio
import json
import resource
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from benchmarks.measure import Report, Row, percentile
from benchmarks.service import PROMPT, Client, Service, request, service

LISTENERS = 2000
OF_ALL_JOBS = 50
"""So many of them follow all jobs of their owner, the others the one job."""

AT_A_TIME = 100
HEALTH_MS = 20.0
ASK_EVERY_S = 0.02
WATCH_S = 10.0
BODY = {**PROMPT, "steps": 30}


class Stream(asyncio.Protocol):
    """One who listens: the ids of the events that came, and when the last of the job came."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.open = asyncio.get_running_loop().create_future()
        self.over = asyncio.get_running_loop().create_future()
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio."""
        self._transport = transport

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Read the ids and the kinds of the events that are whole."""
        *blocks, self._heard = (self._heard + data).split(b"\n\n")
        for block in blocks:
            for line in block.split(b"\n"):
                if line.startswith(b"id: "):
                    self.ids.append(int(line[4:]))
                elif line == b": open" and not self.open.done():
                    self.open.set_result(True)
                elif line in (b"event: succeeded", b"event: failed") and not self.over.done():
                    self.over.set_result(time.perf_counter())

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio."""
        for each in (self.open, self.over):
            if not each.done():
                each.set_exception(exc or ConnectionResetError("the server ended the stream"))


def run() -> Report:
    """/health alone and beside a busy worker; then 2,000 listeners to one job, and /health beside them."""
    _allow_files(LISTENERS * 2 + 500)
    with (
        tempfile.TemporaryDirectory() as folder,
        service(Path(folder) / "home", {"server": {"max_streams": 10_000}}) as made,
    ):
        made.run({**BODY, "steps": 1})
        rows = asyncio.run(_measured(made))
    return Report("listeners", rows)


async def _measured(made: Service) -> list[Row]:
    rows = [Row("/health, p99, nothing to do", await _health(made, WATCH_S / 2), "ms")]
    running = await asyncio.to_thread(made.submit, {**BODY, "steps": 150, "batch_size": 8})
    rows.append(_soon("/health, p99, worker busy", await _health(made, WATCH_S)))
    await asyncio.to_thread(made.http.post, f"/v1/jobs/{running}/cancel")

    server = psutil.Process(made.pid)
    job = await asyncio.to_thread(made.submit, BODY)
    await asyncio.to_thread(made.http.patch, f"/v1/jobs/{job}", json={"paused": True})
    before = server.memory_info().rss
    streams = await _listen(made.url, job)
    each_kib = (server.memory_info().rss - before) / 1024 / len(streams)
    rows.append(Row("event streams held at once", len(streams), "", LISTENERS, "least", f"{each_kib:.0f} KiB each"))
    running = await asyncio.to_thread(made.submit, {**BODY, "steps": 150, "batch_size": 8})
    note = f"{len(streams)} streams are open, {OF_ALL_JOBS} of them hear of each step"
    rows.append(_soon("/health, p99, worker busy, streams held", await _health(made, WATCH_S), note))
    await asyncio.to_thread(made.http.post, f"/v1/jobs/{running}/cancel")

    await asyncio.to_thread(made.http.patch, f"/v1/jobs/{job}", json={"paused": False})
    ends = await asyncio.wait_for(asyncio.gather(*(stream.over for stream in streams)), 300)
    told = json.loads((await asyncio.to_thread(made.http.get, f"/v1/jobs/{job}")).content)
    wanted = list(range(1, len(streams[-1].ids) + 1))
    whole = sum(stream.ids == wanted for stream in streams[OF_ALL_JOBS:])
    late = (max(ends[OF_ALL_JOBS:]) - min(ends[OF_ALL_JOBS:])) * 1000
    note = f"{len(wanted)} events each; the last heard of the end {late:.0f} ms after the first ({told['state']})"
    rows.append(Row("streams of one job that got every event", whole, "", LISTENERS - OF_ALL_JOBS, "least", note))
    for stream in streams:
        stream.close()
    return rows


async def _listen(url: str, job: str) -> list[Stream]:
    """All of them, those of all jobs first; back when each has been let in."""
    where, loop = urlsplit(url), asyncio.get_running_loop()
    streams: list[Stream] = []
    while len(streams) < LISTENERS:
        few: list[Stream] = []
        for _ in range(min(AT_A_TIME, LISTENERS - len(streams))):
            own = len(streams) + len(few) >= OF_ALL_JOBS
            transport, stream = await loop.create_connection(Stream, str(where.hostname), where.port or 80)
            transport.write(request(url, "GET", f"/v1/jobs/{job}/stream" if own else "/v1/events"))
            few.append(stream)
        await asyncio.gather(*(stream.open for stream in few))
        streams += few
    return streams


async def _health(made: Service, seconds: float) -> float:
    """The 99th percentile of /health in milliseconds, asked at a steady pace."""
    client = await Client.connect(made.url)
    asked = request(made.url, "GET", "/health")
    waits = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        await client.ask(asked)
        waits.append(time.perf_counter() - began)
        await asyncio.sleep(max(0.0, ASK_EVERY_S - waits[-1]))
    client.close()
    return percentile(waits, 0.99) * 1000


def _soon(name: str, p99: float, note: str = "") -> Row:
    return Row(name, p99, "ms", HEALTH_MS, note=note)


def _allow_files(count: int) -> None:
    """As many open files as listeners need, here and in the server that is started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (-1, resource.RLIM_INFINITY) and hard < count:
        raise RuntimeError(f"{count} files must be open at once; the system allows {hard} (ulimit -Hn).")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))

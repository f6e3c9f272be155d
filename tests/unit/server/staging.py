"""A whole server for tests: real HTTP on a free port, real store, and workers that live in the server's process.

A made-up worker speaks the real messages on a real socket. A job's prompt says what becomes of it (`Actor.play`).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import itertools
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import uvicorn
from PIL import Image

from safelight.artifacts import Files
from safelight.server.app import App, build
from safelight.server.serve import Server, serve
from safelight.settings import settings_of
from safelight.workers import messages as m
from safelight.workers.channel import Channel, ChannelClosed
from safelight.workers.handle import WorkerHandle

_pids = itertools.count(900_000)


def png(width: int = 64, height: int = 48, color: str = "teal") -> bytes:
    """A picture's file."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), color).save(file, "PNG")
    return file.getvalue()


def base64_png(**fields) -> str:
    return base64.b64encode(png(**fields)).decode()


class Actor:
    """A made-up worker. It plays each job by its prompt:

    draw N: N steps, a picture, success. wait: runs until it is told to stop. refuse, error: ends so. decline: is
    declined the first time, then drawn. die: the worker's process ends with SIGSEGV's code. preview: waits until it
    is watched, previews twice, success. stale: speaks for an attempt that is not its own, then draws.
    """

    def __init__(self, spec, channel: Channel, exit_code: asyncio.Future) -> None:
        self.spec = spec
        self.channel = channel
        self.exit_code = exit_code
        self.open: dict[tuple[str, int], asyncio.Task] = {}
        self.watched: dict[str, asyncio.Event] = {}
        self.assigned: list[m.Assign] = []
        self.heard: list = []

    async def run(self) -> None:
        self.channel.send(
            m.Ready(pid=os.getpid(), device="cpu", device_name="a stage", dtype="fp32", threads=1,
                    bytes_free=64 << 30, versions={"torch": "none"})
        )  # fmt: skip
        beating = asyncio.create_task(self.beat())
        try:
            while (message := await self.channel.receive()) is not None:
                self.heard.append(message)
                if await self.hear(message):
                    break
        finally:
            beating.cancel()
            for task in self.open.values():
                task.cancel()
            await self.channel.close()
            if not self.exit_code.done():
                self.exit_code.set_result(0)

    async def hear(self, message) -> bool:
        match message:
            case m.Assign():
                self.assigned.append(message)
                event = self.watched.setdefault(message.job, asyncio.Event())
                if message.previews:
                    event.set()
                task = asyncio.create_task(self.play(message))
                self.open[message.job, message.attempt] = task
            case m.Watch():
                if message.previews:
                    self.watched[message.job].set()
            case m.Cancel():
                self.leave(message, "cancelled")
            case m.Pause():
                self.leave(message, message.end, checkpoint=True)
            case m.Shutdown():
                for job, attempt in list(self.open):
                    self.leave(m.Cancel(job=job, attempt=attempt), "server_stopped", checkpoint=True)
                return True
        return False

    def leave(self, message, end: str, checkpoint: bool = False) -> None:
        key = message.job, message.attempt
        task = self.open.pop(key, None)
        if task is None:
            return
        task.cancel()
        if checkpoint:
            folder = Path(next(each.folder for each in self.assigned if (each.job, each.attempt) == key)) / "1"
            folder.mkdir(parents=True)
            self.channel.send(m.Checkpointed(job=key[0], attempt=key[1], folder=str(folder), step=1))
        self.channel.send(m.Ended(job=key[0], attempt=key[1], end=end))

    async def beat(self) -> None:
        while True:
            self.channel.send(
                m.Heartbeat(open=list(self.open), holds=["weights"], bytes_free=64 << 30, bytes_held=7, rss=5,
                            last_pass_s=0.0, pass_s=0.0)
            )  # fmt: skip
            await asyncio.sleep(self.spec.heartbeat_s)

    async def play(self, order: m.Assign) -> None:
        key = {"job": order.job, "attempt": order.attempt}
        words = order.resolved["prompt"].split()
        with contextlib.suppress(ChannelClosed):
            await getattr(self, f"play_{words[0]}")(order, key, words[1:])

    async def play_draw(self, order, key, words) -> None:
        steps = int(words[0]) if words else 3
        for step in range(1, steps + 1):
            data = {"picture": 0, "stage": 1, "step": step, "steps": steps, "sigma": 1.0, "eta_s": 0.1}
            self.channel.send(m.Happened(**key, kind="step", data=data))
            await asyncio.sleep(0.002)
        for index in range(order.resolved["batch_size"]):
            data = png(order.resolved["width"], order.resolved["height"])
            sha256 = Files(Path(self.spec.artifacts)).put(data)
            self.channel.send(
                m.Saved(**key, index=index, sha256=sha256, media_type="image/png", bytes=len(data),
                        width=order.resolved["width"], height=order.resolved["height"], seed=order.resolved["seed"])
            )  # fmt: skip
        self.succeed(key)

    def succeed(self, key) -> None:
        del self.open[key["job"], key["attempt"]]
        self.channel.send(m.Succeeded(**key, result={}, timings={"denoise": 0.25}, peak_bytes=1234))

    async def play_wait(self, order, key, words) -> None:
        self.channel.send(m.Happened(**key, kind="step", data={"step": 1, "steps": 1000}))
        await asyncio.Event().wait()

    async def play_refuse(self, order, key, words) -> None:
        del self.open[order.job, order.attempt]
        self.channel.send(m.Ended(**key, end="refused", kind="out_of_memory", message="It is too large.", hint="Less."))

    async def play_error(self, order, key, words) -> None:
        del self.open[order.job, order.attempt]
        self.channel.send(m.Ended(**key, end="error", kind="error", message="It broke.", trace="Traceback: there"))

    async def play_decline(self, order, key, words) -> None:
        if order.attempt > 1:
            await self.play_draw(order, key, [])
            return
        del self.open[order.job, order.attempt]
        self.channel.send(m.Declined(**key, reason="no room just now"))

    async def play_die(self, order, key, words) -> None:
        self.exit_code.set_result(-11)
        self.channel.abort()

    async def play_preview(self, order, key, words) -> None:
        await self.watched[order.job].wait()
        for step in (1, 2):
            data = {"picture": 0, "step": step, "media_type": "image/png", "data": base64_png()}
            self.channel.send(m.Happened(**key, kind="preview", data=data))
            self.channel.send(m.Happened(**key, kind="step", data={"step": step, "steps": 2}))
            await asyncio.sleep(0.02)
        self.succeed(key)

    async def play_stale(self, order, key, words) -> None:
        self.channel.send(m.Happened(job=order.job, attempt=order.attempt + 7, kind="warning", data={"message": "lie"}))
        await self.play_draw(order, key, [])


class Theatre:
    """A launcher whose workers are actors in the server's own event loop. `actors`: all that ever were."""

    def __init__(self, kind: type[Actor] = Actor) -> None:
        self.kind = kind
        self.actors: list[Actor] = []
        self.tasks: list[asyncio.Task] = []

    async def start(self, spec) -> WorkerHandle:
        ours, theirs = socket.socketpair()
        server = Channel(*await asyncio.open_connection(sock=ours), m.ToServer)
        worker = Channel(*await asyncio.open_connection(sock=theirs), m.ToWorker)
        exit_code = asyncio.get_running_loop().create_future()
        actor = self.kind(spec, worker, exit_code)
        self.actors.append(actor)
        self.tasks.append(asyncio.create_task(actor.run()))

        def kill() -> None:
            if not exit_code.done():
                exit_code.set_result(-9)
            worker.abort()

        return WorkerHandle(spec, next(_pids), server, exit_code, kill)

    async def close(self) -> None:
        await asyncio.gather(*self.tasks)


class Stage:
    """A running server. `http`: a client of it; `app`: the program, for what only the inside shows."""

    def __init__(self, app: App, theatre: Theatre, url: str, server: Server) -> None:
        self.app = app
        self.theatre = theatre
        self.url = url
        self.server = server
        self.http = httpx.Client(base_url=url, timeout=30)

    def submit(self, prompt: str = "draw", **fields) -> str:
        """A job's id."""
        answer = self.http.post("/v1/jobs", json={"operation": "image.generate", "prompt": prompt, **fields})
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def job(self, job_id: str) -> dict:
        return self.http.get(f"/v1/jobs/{job_id}").json()

    def until(self, job_id: str, *states: str, within_s: float = 20) -> dict:
        """The job once it is in one of the states."""
        deadline = time.monotonic() + within_s
        while (job := self.job(job_id))["state"] not in states:
            assert time.monotonic() < deadline, f"{job['state']}, not {states}, after {within_s} s: {job['attempts']}"
            time.sleep(0.01)
        return job

    def done(self, job_id: str) -> dict:
        return self.until(job_id, "succeeded", "failed", "cancelled")

    def events(self, job_id: str, **params) -> list[dict]:
        """The job's stream to its end."""
        with self.http.stream("GET", f"/v1/jobs/{job_id}/stream", params=params) as answer:
            assert answer.status_code == 200
            return read_events("".join(answer.iter_text()))


def read_events(text: str) -> list[dict]:
    """The events of a stream's text: {id, event, data}."""
    import json

    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    lines = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    return [{**each, "data": json.loads(each["data"])} for each in lines]


@contextlib.contextmanager
def stage(home: Path, *, store=None, theatre: Theatre | None = None, **sections) -> Iterator[Stage]:
    """A server on a free port of 127.0.0.1, in a thread of its own, until the block ends."""
    values = {"storage": {"home": str(home)}, "jobs": {"heartbeat_s": 0.1, "lease_s": 5.0}, "models": {}}
    for section, named in sections.items():
        values.setdefault(section, {}).update(named)
    theatre = theatre or Theatre()
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    made: dict = {}
    failures: list[Exception] = []
    ready = threading.Event()

    async def play() -> None:
        app = build(settings_of(values), store=store, launcher=theatre)
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5, lifespan="off")
        server = Server(config, app)
        server.capture_signals = contextlib.nullcontext  # signals belong to the main thread
        made.update(app=app, server=server)
        serving = asyncio.create_task(serve(app, server, listening))
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        if server.started:
            app.lock.announce(url)
            ready.set()
        await serving

    def main() -> None:
        try:
            asyncio.run(play())
        except Exception as error:  # noqa: BLE001  (raised again where the test runs)
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=main, name="stage")
    thread.start()
    ready.wait(30)
    try:
        if failures:
            raise failures[0]
        here = Stage(made["app"], theatre, url, made["server"])
        with here.http:
            yield here
    finally:
        if "server" in made:
            made["server"].should_exit = True
        thread.join(30)
        listening.close()
    assert not thread.is_alive(), "the server did not stop"
    if failures:
        raise failures[0]


def problem(answer: httpx.Response, status: int, kind: str) -> dict:
    """The problem document of an answer, checked for its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["kind"], body["type"]) == (status, kind, f"/docs#problem-{kind}")
    assert body["title"] and body["detail"]
    assert not re.search(r"Traceback|File \"", answer.text)
    return body

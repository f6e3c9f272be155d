"""The local launcher: workers on this machine, forked from a zygote where that is safe, started anew elsewhere.

Workers connect to a socket of the server and show the token they were started with: a Unix socket where there are
any, else loopback TCP. Nobody else can speak to the server there: an unknown token ends the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.errors import WorkerUnavailable
from safelight.workers.channel import Channel, ChannelClosed
from safelight.workers.child import Child
from safelight.workers.frames import BadFrame
from safelight.workers.handle import WorkerHandle
from safelight.workers.messages import (
    Exited,
    Forked,
    FromZygote,
    Hello,
    Kill,
    Preload,
    Preloaded,
    Start,
    ToServer,
)
from safelight.workers.spec import WorkerSpec

log = logging.getLogger(__name__)

PRELOAD = (
    "safelight.workers.process",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
)
"""What the zygote imports, by name: this module is the server's and loads none of it."""

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Of the zygote, set before its imports: with more threads, numpy and scipy start them as they load, and a process with
threads must not fork. A worker sets the threads of torch itself."""

HELLO_S = 5.0
"""Seconds that a new connection has to show its token."""

PATH_LIMIT = 90
"""Characters that a Unix socket's path may have everywhere (the system's limit is 104 to 108)."""


def connect(address: str) -> socket.socket:
    """The worker's end: a connection to `unix:PATH` or `tcp:HOST:PORT`."""
    kind, _, place = address.partition(":")
    if kind == "unix" and sys.platform != "win32":
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(place)
        return connection
    host, _, port = place.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=HELLO_S)
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@dataclass(frozen=True)
class _Process:
    pid: int
    exit_code: asyncio.Future[int | None]
    kill: Callable[[], None]


class LocalLauncher:
    """Starts workers here. Nothing runs until the first `start`.

    address: where workers connect, once there is one; see `connect`.
    folder: where the Unix socket goes (the data folder; None: a private temporary one). preload: modules for the
    zygote. fork: None = where it is safe (Linux; not macOS, whose frameworks break in forked children, nor Windows).
    tcp: use loopback TCP although Unix sockets are there. start_s: how long a worker may take to connect.
    """

    def __init__(
        self, folder: Path | None = None, preload: Sequence[str] = PRELOAD, *, fork: bool | None = None,
        tcp: bool = sys.platform == "win32", start_s: float = 120.0,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._own_folder: Path | None = None
        self._preload = list(preload)
        self._forks = sys.platform == "linux" if fork is None else fork
        self._tcp = tcp
        self._start_s = start_s
        self._server: asyncio.Server | None = None
        self.address = ""
        self._opening = asyncio.Lock()
        self._expected: dict[str, asyncio.Future[Channel[ToServer]]] = {}
        self._zygote: _Zygote | None = None
        self._spawned: dict[Child[ToServer], asyncio.Task[None]] = {}

    async def start(self, spec: WorkerSpec) -> WorkerHandle:
        """Start a worker and wait for its connection; WorkerUnavailable in words where it does not come."""
        async with self._opening:
            await self._listen()
            zygote = await self._living_zygote() if self._forks else None
        token = secrets.token_urlsafe(32)
        order = Start(spec=spec, address=self.address, token=token)
        arrived: asyncio.Future[Channel[ToServer]] = asyncio.get_running_loop().create_future()
        self._expected[token] = arrived
        process: _Process | None = None
        try:
            process = await (zygote.fork(order) if zygote else self._spawn(order))
            either: set[asyncio.Future[Any]] = {arrived, process.exit_code}
            await asyncio.wait(either, timeout=self._start_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._expected[token]
            if process is not None and not arrived.done():  # too late, or the caller went away
                process.kill()
        if arrived.done():
            return WorkerHandle(spec, process.pid, arrived.result(), process.exit_code, process.kill)
        if process.exit_code.done():
            raise WorkerUnavailable(
                f"The worker {spec.id} ended (exit code {process.exit_code.result()}) before it connected.",
                "Its own words are in the server's log; `safelight doctor` checks the installation.",
            )
        raise WorkerUnavailable(f"The worker {spec.id} did not connect within {self._start_s:g} s and was ended.")

    async def close(self) -> None:
        """End what is still running, at once, and let go of the socket."""
        if self._zygote is not None:
            await self._zygote.close()
        for child, task in list(self._spawned.items()):
            child.kill()
            await task
        if self._server is not None:
            self._server.close()
            if self.address.startswith("unix:"):
                Path(self.address.removeprefix("unix:")).unlink(missing_ok=True)
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    async def _listen(self) -> None:
        if self._server is not None:
            return
        if self._tcp or sys.platform == "win32":
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            host, port = self._server.sockets[0].getsockname()[:2]
            self.address = f"tcp:{host}:{port}"
            return
        folder = self._folder
        if folder is None or len(str(folder.resolve())) > PATH_LIMIT - len("/workers.sock"):
            folder = self._own_folder = Path(tempfile.mkdtemp(prefix="safelight-"))
        path = folder.resolve() / "workers.sock"
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, path)
        path.chmod(0o600)
        self.address = f"unix:{path}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A new connection: whose token is expected is a worker's, any other is ended."""
        channel: Channel[ToServer] = Channel(reader, writer, ToServer)
        try:
            hello = await asyncio.wait_for(channel.receive(), HELLO_S)
        except (BadFrame, TimeoutError) as error:
            log.warning("a connection to the workers' socket was ended: %s", error or "it said nothing")
            channel.abort()
            return
        arrived = self._expected.get(hello.token) if isinstance(hello, Hello) else None
        if arrived is None or arrived.done():
            log.warning("a connection to the workers' socket was ended: it showed no token that is expected")
            channel.abort()
            return
        arrived.set_result(channel)

    async def _living_zygote(self) -> _Zygote | None:
        """The zygote, a new one where it died, or None where it turned out not to be safe to fork."""
        if self._zygote is None or not self._zygote.alive:
            self._zygote = await _Zygote.spawn(self._preload)
            if self._zygote.threads > 1:
                log.warning(
                    "the zygote has %d threads and must not fork: workers start anew, which takes seconds",
                    self._zygote.threads,
                )
                await self._zygote.close()
                self._zygote, self._forks = None, False
        return self._zygote

    async def _spawn(self, order: Start) -> _Process:
        child: Child[ToServer] = await Child.spawn("safelight.workers.process", ToServer)
        exit_code: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

        async def watch() -> None:
            code: int | None = None
            try:
                code = await child.process.wait()
                await child.channel.close()
            finally:
                del self._spawned[child]
                exit_code.set_result(code)

        self._spawned[child] = asyncio.create_task(watch())
        with contextlib.suppress(ChannelClosed):
            child.channel.send(order)
        return _Process(child.pid, exit_code, child.kill)


class _Zygote:
    """The server's end of a zygote: it forks, and knows how its children ended."""

    def __init__(self, child: Child[FromZygote], threads: int) -> None:
        self.threads = threads
        self.alive = True
        self._child = child
        self._forked: dict[str, asyncio.Future[Forked]] = {}
        self._exits: dict[int, asyncio.Future[int | None]] = {}
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def spawn(cls, modules: Sequence[str]) -> _Zygote:
        """Start one and wait for its imports; WorkerUnavailable in words where it ends before."""
        child: Child[FromZygote] = await Child.spawn("safelight.workers.zygote", FromZygote, ENVIRONMENT)
        first: FromZygote | None = None
        try:
            with contextlib.suppress(ChannelClosed):
                child.channel.send(Preload(modules=list(modules)))
            first = await child.channel.receive()
        finally:
            if first is None:  # also where the caller went away
                child.kill()
                code = await asyncio.shield(child.close())
        if not isinstance(first, Preloaded):
            raise WorkerUnavailable(
                f"The zygote ended (exit code {code}) while it imported {', '.join(modules)}.",
                "Its own words are in the server's log; `safelight doctor` checks the installation.",
            )
        for name, why in first.missing.items():
            log.warning("the zygote could not import %s: %s", name, why)
        return cls(child, first.threads)

    async def fork(self, order: Start) -> _Process:
        """Have it fork a worker; WorkerUnavailable where it is gone or the system refuses."""
        answer: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
        self._forked[order.token] = answer
        try:
            self._child.channel.send(order)
            forked = await answer
        except ChannelClosed as error:
            raise WorkerUnavailable(f"The zygote is gone: {error}") from error
        finally:
            del self._forked[order.token]
        if forked.pid == 0:
            raise WorkerUnavailable(
                f"The system refused a worker: {forked.error}", "Free memory or raise the process limit."
            )
        return _Process(forked.pid, self._exits[forked.pid], lambda: self._kill(forked.pid))

    def _kill(self, pid: int) -> None:
        with contextlib.suppress(ChannelClosed):
            self._child.channel.send(Kill(pid=pid))

    async def _listen(self) -> None:
        """Note forks and exits. When it dies its workers die with it, and nobody learns their exit codes."""
        try:
            while (message := await self._child.channel.receive()) is not None:
                self._note(message)
        except BadFrame as error:
            log.error("the zygote was ended, it sent what cannot be read: %s", error)
            self._child.kill()
        finally:
            self.alive = False
            for answer in self._forked.values():
                if not answer.done():
                    answer.set_exception(ChannelClosed("it ended"))
            for exit_code in self._exits.values():
                exit_code.set_result(None)

    def _note(self, message: FromZygote) -> None:
        match message:
            case Forked():
                if message.pid:
                    self._exits[message.pid] = asyncio.get_running_loop().create_future()
                answer = self._forked.get(message.token)
                if answer is not None and not answer.done():
                    answer.set_result(message)
                elif message.pid:  # whoever ordered it went away
                    self._kill(message.pid)
            case Exited():
                self._exits.pop(message.pid).set_result(message.code)

    async def close(self) -> None:
        """End it, and with it its workers."""
        await self._child.close()
        await self._listening

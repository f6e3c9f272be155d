"""Serving: uvicorn in this process, signals, and the way down."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from types import FrameType

import uvicorn

from safelight import logs
from safelight.client import launch
from safelight.client.address import Address
from safelight.errors import ServerNotRunning
from safelight.server.app import App, build
from safelight.settings import Settings

log = logging.getLogger(__name__)

CLOSE_S = 5
"""Seconds that open connections have to end once the streams were closed."""


class Server(uvicorn.Server):
    """uvicorn, which ends our streams before it waits for its connections. A second signal ends everything at once."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self._app = app
        app.on_stop = self.stop

    def stop(self) -> None:
        """Begin to stop."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: the first stops in order, the second at once: open jobs go on from the checkpoints they have."""
        if self.should_exit:
            self.force_exit = True
            self._app.grace_s = 0.0
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, end streams, let requests finish, then close the program (its lifespan)."""
        self._app.begin_stop()
        await super().shutdown(sockets)


def run(settings: Settings, detach: bool = False) -> Address:
    """Serve until told to stop; with `detach`, start a server in the background (or find the one that runs).

    Returns where the server is (or was). Raises InvalidSettings, Conflict (another server has the folder),
    StoreUnusable, ServerNotRunning (the port is taken; a detached one did not get ready).
    """
    if detach:
        return launch.start(settings)
    logs.configure(settings.log.level, settings.log.format)
    app = build(settings)
    app.lock.acquire()
    try:
        listening = _listen(settings.server.host, settings.server.port)
        with listening:
            host, port = listening.getsockname()[:2]
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            here = app.lock.announce(url)
            sys.stdout.write(f"Safelight serves {url} (pid {here.pid}); data folder {settings.storage.home}\n")
            sys.stdout.flush()
            config = uvicorn.Config(
                app, log_config=None, access_log=False, timeout_graceful_shutdown=CLOSE_S, server_header=False,
                lifespan="off", ws="none",
            )  # fmt: skip
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                runner.run(serve(app, Server(config, app), listening))
            return here
    finally:
        app.lock.release()


async def serve(app: App, server: Server, listening: socket.socket) -> None:
    """Open the program, serve until `server` is told to stop, close the program."""
    async with app.running():
        await server.serve([listening])


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; ServerNotRunning in words where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    if sys.platform != "win32":
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        hint = "Another program has the port: give SAFELIGHT_SERVER_PORT another one, or 0 for any that is free."
        raise ServerNotRunning(f"Nothing can listen on {host}:{port}: {error.strerror}.", hint) from None
    return listening

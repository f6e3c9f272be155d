"""The two ends of a conversation: `Channel` for the server's event loop, `BlockingChannel` for a worker's threads."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import msgspec

from safelight.workers.frames import FRAME_LIMIT, BadFrame, Unpacker, pack

CHUNK = 256 * 1024
BACKLOG_LIMIT = 64 * 1024 * 1024
"""Bytes that may wait for an end that does not read before the connection is given up."""

M = TypeVar("M")


class ChannelClosed(ConnectionError):
    """The other end is gone, or has not read for so long that it counts as gone."""


class Channel(Generic[M]):
    """The event loop's end. `kind`: the union of the messages that may come in."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: Any, limit: int = FRAME_LIMIT
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._unpacker: Unpacker[M] = Unpacker(kind, limit)
        self._ready: Iterator[M] = iter(())
        self._limit = limit

    def send(self, message: msgspec.Struct) -> None:
        """Queue a message, in order, without waiting: a worker that hangs must not hold up the server.

        ChannelClosed where the other end is gone or leaves more than BACKLOG_LIMIT unread; BadFrame for one too long.
        """
        frame = pack(message, self._limit)
        transport = self._writer.transport
        if transport.is_closing():
            raise ChannelClosed("The connection is closed.")
        if transport.get_write_buffer_size() > BACKLOG_LIMIT:
            transport.abort()
            raise ChannelClosed(f"More than {BACKLOG_LIMIT} bytes wait to be read at the other end: it is given up.")
        self._writer.write(frame)

    async def receive(self) -> M | None:
        """The next message, or None when the other end is gone. BadFrame ends the connection."""
        try:
            while True:
                for message in self._ready:
                    return message
                data = await self._reader.read(CHUNK)
                if not data:
                    return None
                self._ready = self._unpacker.feed(data)
        except BadFrame:
            self.abort()
            raise
        except ConnectionError:
            return None

    def abort(self) -> None:
        """Let go of the connection at once, whatever is still to be sent."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Send what is queued, then let go."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@dataclass(frozen=True)
class Closed:
    """The last thing a BlockingChannel's queue gives: why no more will come."""

    reason: str


class BlockingChannel(Generic[M]):
    """A worker's end: sends from any thread; a thread of its own reads into `incoming`, and last a `Closed`."""

    def __init__(self, connection: socket.socket, kind: Any, limit: int = FRAME_LIMIT) -> None:
        self.incoming: SimpleQueue[M | Closed] = SimpleQueue()
        self._socket = connection
        self._unpacker: Unpacker[M] = Unpacker(kind, limit)
        self._limit = limit
        self._sending = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="safelight-channel", daemon=True)

    def listen(self) -> None:
        """Start the reader."""
        self._reader.start()

    def send(self, message: msgspec.Struct) -> None:
        """Send a message whole; ChannelClosed where nobody is there, BadFrame (nothing sent) for one too long."""
        frame = pack(message, self._limit)
        try:
            with self._sending:
                self._socket.sendall(frame)
        except OSError as error:
            raise ChannelClosed(f"The other end is gone: {error}") from error

    def close(self) -> None:
        """Let go of the socket; the reader ends."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self) -> None:
        reason = "the other end closed the connection"
        try:
            while data := self._socket.recv(CHUNK):
                for message in self._unpacker.feed(data):
                    self.incoming.put(message)
        except (OSError, BadFrame) as error:
            reason = str(error)
        self.incoming.put(Closed(reason))

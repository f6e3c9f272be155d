"""Frames: messages on a stream of bytes, each behind its length. Pure: bytes in, messages out, no input or output.

A frame is 4 bytes of length, big-endian, then so many bytes of MessagePack.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

FRAME_LIMIT = 16 * 1024 * 1024
"""Bytes of MessagePack in a frame, at most. The longest honest message is a request or a preview."""

LENGTH = struct.Struct(">I")

M = TypeVar("M")


class BadFrame(ValueError):
    """What came is no frame of this conversation: too long, not MessagePack, or no message that is known here."""


def pack(message: msgspec.Struct, limit: int = FRAME_LIMIT) -> bytes:
    """The message's frame; BadFrame where it would be longer than the other end takes."""
    body = msgspec.msgpack.encode(message)
    if len(body) > limit:
        raise BadFrame(f"A {type(message).__name__} of {len(body)} bytes is longer than a frame's {limit} bytes.")
    return LENGTH.pack(len(body)) + body


class Unpacker(Generic[M]):
    """Puts a stream back together. `kind`: the union of the messages that may come, all else is a BadFrame."""

    def __init__(self, kind: Any, limit: int = FRAME_LIMIT) -> None:
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(kind)
        self._limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[M]:
        """The messages that `data` completes, as they are asked for. BadFrame ends the stream: nothing follows it."""
        self._rest += data
        while len(self._rest) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._rest)
            if length > self._limit:
                raise BadFrame(f"A frame of {length} bytes was announced; at most {self._limit} are taken.")
            end = LENGTH.size + length
            if len(self._rest) < end:
                return
            body = bytes(self._rest[LENGTH.size : end])
            del self._rest[:end]
            try:
                message = self._decoder.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise BadFrame(f"A frame of {length} bytes holds no message that is known here: {error}") from error
            yield message

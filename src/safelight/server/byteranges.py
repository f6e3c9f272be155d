"""Files over HTTP: one range at a time (RFC 9110, section 14), and answers that a cache may keep for ever.

Contents never change under their name (it is their SHA-256), so the name is a strong ETag.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from safelight.errors import NotFound
from safelight.server.problems import RangeNotSatisfiable

CHUNK = 256 * 1024
INLINE = frozenset({"image/png", "image/jpeg", "image/webp", "image/avif", "video/mp4", "video/webm"})
"""Media types a browser may show; anything else is downloaded."""

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def read_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte that a Range header asks for; None where the whole file is to be sent.

    What is not one well-formed range of bytes is ignored, as the standard allows; RangeNotSatisfiable outside of the
    file.
    """
    match = _RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        if length == 0:
            raise RangeNotSatisfiable(size)
        return size - length, size - 1
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise RangeNotSatisfiable(size)
    return int(first), min(int(last), size - 1) if last else size - 1


async def serve(request: Request, path: Path, *, tag: str, media_type: str, filename: str) -> Response:
    """The file at `path`, or the part of it that is asked for, or 304 where the client has it."""
    etag = f'"{tag}"'
    disposition = "inline" if media_type in INLINE else "attachment"
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": f'{disposition}; filename="{filename}"',
    }
    if etag in [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]:
        return Response(None, 304, headers)
    try:
        size = (await anyio.Path(path).stat()).st_size
    except OSError:
        raise NotFound(f"The file of {request.url.path} is gone.", "It was removed from the data folder.") from None
    wanted = read_range(request.headers.get("range"), size)
    if request.headers.get("if-range", etag) != etag:
        wanted = None
    first, last = wanted or (0, size - 1)
    headers["Content-Length"] = str(last - first + 1)
    if wanted:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    status = 206 if wanted else 200
    if request.method == "HEAD":
        return Response(None, status, headers, media_type)
    return StreamingResponse(_pieces(path, first, last - first + 1), status, headers, media_type)


async def _pieces(path: Path, first: int, length: int) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        await file.seek(first)
        while length > 0 and (piece := await file.read(min(CHUNK, length))):
            length -= len(piece)
            yield piece

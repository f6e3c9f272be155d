"""Bounds on what is read from a client: the body is counted while it arrives, never believed and never held whole."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from safelight.core.media import MAX_UPLOAD_BYTES
from safelight.server.problems import TooLarge, respond

MAX_BODY_BYTES = 2 * (MAX_UPLOAD_BYTES * 4 // 3) + 1024 * 1024
"""A picture and a mask as base64, and the fields around them."""

MAX_MULTIPART_OVERHEAD = 16 * 1024
"""Boundaries and headers around the one file of a multipart upload."""

ROUTE_LIMITS: dict[str, int] = {"/v1/uploads": MAX_UPLOAD_BYTES + MAX_MULTIPART_OVERHEAD}
"""Routes with a bound of their own, by path."""


class BodyLimit:
    """ASGI middleware: a body over its route's bound is answered with 413 as soon as that shows."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counting `receive`."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = ROUTE_LIMITS.get(scope["path"], self.limit)
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            await respond(TooLarge(limit))(scope, receive, send)
            return
        seen = 0

        async def counting() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise TooLarge(limit)
            return message

        await self.app(scope, counting, send)

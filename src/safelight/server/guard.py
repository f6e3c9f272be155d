"""Who may come in: Host and Origin are checked before anything else, and every answer carries security headers.

A web page the owner visits must not reach a server on their machine. DNS rebinding shows in the Host header (a name
we do not have); a cross-site post shows in Origin or Sec-Fetch-Site, also for text/plain bodies that need no preflight.
Programs send no Origin and pass. No CORS header is ever sent, so pages of other origins can read nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from safelight.server.problems import NotAllowed, respond

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

SECURITY_HEADERS: dict[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """ASGI middleware. `hosts`: further names (without port) this server is reached by, beside the local ones."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self.app = app
        self.hosts = frozenset(host.casefold() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what comes from elsewhere; add the security headers to every answer."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self.refusal(Headers(scope=scope), scope.get("method", ""), scope["type"] == "websocket")
        if refusal is None:
            await self.app(scope, receive, sealed)
        elif scope["type"] == "http":
            await respond(refusal)(scope, receive, sealed)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "foreign host or origin"})

    def refusal(self, headers: Headers, method: str, websocket: bool = False) -> NotAllowed | None:
        """Why the request is refused, or None."""
        host = headers.get("host", "")
        if not self.knows(_name(host)):
            return NotAllowed(f"The host {host!r} is not this server's.", "Use 127.0.0.1 or localhost.")
        if method in SAFE_METHODS and not websocket:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.casefold() != host.casefold():
            return NotAllowed(f"Pages of {origin!r} may not use this server.", "Open the server's own page instead.")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return NotAllowed("Pages of other sites may not use this server.", "Open the server's own page instead.")
        return None

    def knows(self, name: str) -> bool:
        """Whether `name` (a host without port) means this server: a loopback name or one of `hosts`."""
        return name in self.hosts or is_loopback(name)


def is_loopback(name: str) -> bool:
    """Whether an address or name can only be this machine itself."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.casefold() == "localhost"


def _name(host: str) -> str:
    """The host without port and brackets, lower-case; empty where it is malformed."""
    try:
        return (urlsplit(f"//{host}").hostname or "").casefold()
    except ValueError:
        return ""

"""Where a URL that a client gave may lead: to public addresses, and to the networks that the settings name.

Otherwise whoever may hand in jobs could make the server speak to what only it can reach (a cloud's metadata service, a
router, a database on this machine). What is checked are the addresses that a name stands for, and the connection is
then made to one of these and not to the name: a name may stand for another address a moment later (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

import httpx

from safelight.core.names import one_of
from safelight.errors import InvalidRequest, InvalidValue
from safelight.server.problems import LookupsBusy
from safelight.settings.table import Network

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[Address]]]
"""(host, port) -> the addresses it stands for. OSError or UnicodeError where there are none; LookupsBusy."""

MAX_URL = 2000
RESOLVE_S = 5.0
LOOKUPS = 8
NEVER_GIVEN = IPv6Network("3fff::/20")
"""Addresses for documentation (RFC 9637), which older Pythons take for public ones."""
UNICAST = IPv6Network("2000::/3")
"""All that is given out of IPv6 (RFC 4291, 2.4): the rest is local, or carries an IPv4 address inside."""


class Lookups:
    """What the system says a name stands for: DNS, the hosts file, and every way to write an address (127.1, 0x7f.1).

    The system may keep a caller waiting for half a minute. Each lookup therefore has a thread of its own, at most
    `LOOKUPS` at once and one a name, which all who ask for it meanwhile share: names that nobody answers for hold up
    neither the threads of others nor the end of the program. Those who deliver have Lookups of their own, so that what
    is handed in cannot keep them from it.
    """

    def __init__(self, look: Callable[..., Sequence[Any]] = socket.getaddrinfo) -> None:
        """`look`: as socket.getaddrinfo."""
        self._look = look
        self._free = asyncio.Semaphore(LOOKUPS)
        self._under_way: dict[str, asyncio.Future[Sequence[Any] | Exception]] = {}

    async def __call__(self, host: str, port: int) -> list[Address]:
        """See Resolve. LookupsBusy where no thread comes free in half of `RESOLVE_S`."""
        if host not in self._under_way:
            try:
                async with asyncio.timeout(RESOLVE_S / 2):
                    await self._free.acquire()
            except TimeoutError:
                raise LookupsBusy(host) from None
            if host in self._under_way:  # another began while this one waited for a thread
                self._free.release()
            else:
                self._begin(host, port)
        found = await asyncio.shield(self._under_way[host])
        if isinstance(found, Exception):
            raise found
        return list(dict.fromkeys(ip_address(str(each[4][0]).partition("%")[0]) for each in found))

    def _begin(self, host: str, port: int) -> None:
        """Ask in a thread; a failure is a result here, since it may be that nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        answer = self._under_way[host] = loop.create_future()

        def told(found: Sequence[Any] | Exception) -> None:
            self._free.release()
            del self._under_way[host]
            answer.set_result(found)

        def look() -> None:
            found: Sequence[Any] | Exception
            try:
                found = self._look(host, port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as failure:
                found = failure
            with contextlib.suppress(RuntimeError):  # the loop may be closed by then
                loop.call_soon_threadsafe(told, found)

        threading.Thread(target=look, name=f"lookup of {host}", daemon=True).start()


def is_public(address: Address) -> bool:
    """Whether the address is one of the public internet. What carries another address inside (IPv4-mapped, 6to4,
    Teredo, NAT64) never is: it may lead to a private one."""
    if isinstance(address, IPv6Address) and (
        address not in UNICAST or address in NEVER_GIVEN or address.sixtofour or address.teredo
    ):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


class Addresses:
    """The addresses that a webhook may lead to. `networks`: allowed although not public; there http is allowed too.

    `resolve`: in place of the system's answers.
    """

    def __init__(self, networks: Sequence[Network], resolve: Resolve | None = None) -> None:
        self._networks = tuple(networks)
        self._resolve = resolve or Lookups()

    def parsed(self, text: str) -> httpx.URL:
        """The URL, checked for its form; InvalidRequest."""
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL as error:
            raise _refused(f"{text[:200]!r} is no URL: {error}", "Give one like https://example.org/hook.") from None
        if len(text) > MAX_URL:
            raise _refused(f"it has {len(text)} characters", f"At most {MAX_URL} are allowed.")
        if url.scheme not in ("https", "http") or not url.raw_host:
            raise _refused(f"{text[:200]!r} is no https URL", "Give one like https://example.org/hook.")
        if url.userinfo:
            raise _refused(
                "it has a user name or password in it", "Put a secret into the path, or check the signature."
            )
        if url.port is not None and not 0 < url.port < 65536:
            raise _refused(f"there is no port {url.port}", "Give one from 1 to 65535.")
        return url

    async def of(self, url: httpx.URL) -> list[Address]:
        """The addresses that `url` leads to, in the order to try them; InvalidRequest unless all are allowed,
        LookupsBusy where the name cannot be asked about at present."""
        host = url.raw_host.decode("ascii")
        try:
            async with asyncio.timeout(RESOLVE_S):
                found = await self._resolve(host, url.port or (443 if url.scheme == "https" else 80))
        except (OSError, UnicodeError, ValueError) as error:  # TimeoutError is an OSError
            said = str(error) or f"no answer within {RESOLVE_S:g} s"
            raise _refused(
                f"the host {host!r} is not found: {said}", "Check its name, and this server's DNS."
            ) from None
        inside = [each for each in found if self._is_listed(each)]
        if not found or any(each not in inside and not is_public(each) for each in found):
            where = one_of(str(each) for each in found) or "nothing"
            hint = "Give a public address, or let the server's owner add the network to webhooks.networks."
            raise _refused(f"the host {host!r} leads to {where}, which is not public", hint)
        if url.scheme == "http" and len(inside) < len(found):
            raise _refused("it is not encrypted", "Use https; http is for the networks in webhooks.networks alone.")
        return found

    def _is_listed(self, address: Address) -> bool:
        return any(address in network for network in self._networks if network.version == address.version)


def _refused(message: str, hint: str) -> InvalidRequest:
    return InvalidRequest(InvalidValue("webhook.url", message, hint))

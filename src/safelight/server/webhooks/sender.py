"""One try to deliver: connect to a checked address, say it, look at the status and nothing else."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from http import HTTPStatus

import httpx

import safelight
from safelight.errors import InvalidRequest
from safelight.jobs.records import Delivery, DeliveryState
from safelight.server.webhooks import signature
from safelight.server.webhooks.addresses import Addresses

MAX_BODY = 256 * 1024
"""Most bytes of a message. Of an event that says more, the receiver gets no `data` and asks for the job's record."""


def body_of(delivery: Delivery) -> bytes:
    """The message: the event as its stream has it, with the delivery's id. The same in every try."""
    event = delivery.event
    said = {
        "id": delivery.id,
        "job_id": event.job_id,
        "kind": event.kind.value,
        "number": event.number,
        "sequence": event.sequence,
        "at": event.at,
        "data": event.data,
    }
    body = json.dumps(said).encode()
    return body if len(body) <= MAX_BODY else json.dumps({**said, "data": None}).encode()


class Sender:
    """Sends deliveries. Close it at the end.

    Each has a connection of its own, to the address that was checked: a kept one would serve whatever other name
    stands for that address. Redirects are not followed, proxies not used, answers not read.
    """

    def __init__(self, addresses: Addresses, secret: bytes, timeout_s: float,
                 wall: Callable[[], float] = time.time) -> None:  # fmt: skip
        self._addresses = addresses
        self._secret = secret
        self._timeout_s = timeout_s
        self._wall = wall
        self._http = httpx.AsyncClient(
            timeout=timeout_s, trust_env=False, follow_redirects=False, verify=httpx.create_ssl_context(),
            limits=httpx.Limits(max_keepalive_connections=0),
        )  # fmt: skip

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def send(self, delivery: Delivery) -> tuple[DeliveryState, str]:
        """What came of a try: delivered; pending, with the reason; or dead where the address wants no more.

        LookupsBusy where it came to no try.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                status = await self._status(delivery)
        except TimeoutError:
            return DeliveryState.PENDING, f"no answer within {self._timeout_s:g} s"
        except InvalidRequest as error:
            return DeliveryState.PENDING, f"{error.errors[0].message}. {error.hint}"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return DeliveryState.PENDING, f"{type(error).__name__}: {error}"[:500]
        if 200 <= status < 300:
            return DeliveryState.DELIVERED, ""
        if status == HTTPStatus.GONE:
            return DeliveryState.DEAD, "the address answered 410: it wants no more"
        return DeliveryState.PENDING, f"the address answered {status}" + (
            "; redirects are not followed" if 300 <= status < 400 else ""
        )

    async def _status(self, delivery: Delivery) -> int:
        """The status of the answer of the first address that takes the connection."""
        url = self._addresses.parsed(delivery.url)
        body = body_of(delivery)
        headers = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": f"Safelight/{safelight.__version__}",
            **signature.headers(self._secret, delivery.id, int(self._wall()), body),
        }
        extensions = {"sni_hostname": url.raw_host.decode("ascii")}  # the certificate must be the name's
        failed: httpx.TransportError = httpx.ConnectError("there is no address")
        found = await self._addresses.of(url)
        # An address that is silent (IPv6 where there is no way to it) leaves the others their share of the time.
        timeout = httpx.Timeout(self._timeout_s, connect=self._timeout_s / max(len(found), 1))
        for address in found:
            there = url.copy_with(host=str(address))
            try:
                async with self._http.stream("POST", there, content=body, headers=headers, timeout=timeout,
                                             extensions=extensions) as answer:  # fmt: skip
                    return answer.status_code
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = error
        raise failed

"""What a submission may say of a webhook, and whether it may."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from safelight.errors import InvalidRequest, InvalidValue
from safelight.jobs.records import Webhook
from safelight.server.webhooks.addresses import MAX_URL, Addresses

Told = Literal["queued", "started", "artifact", "warning", "retry", "paused", "succeeded", "failed", "cancelled"]
"""Kinds of events that a webhook may hear of: what is stored, but for the small steps of the work."""

TOLD: frozenset[str] = frozenset(get_args(Told))

LAST: tuple[Told, ...] = ("succeeded", "failed", "cancelled")


class WebhookWish(BaseModel):
    """An address, and the kinds of events it is told of; by default those that end a job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, Field(min_length=1, max_length=MAX_URL)]
    events: Annotated[tuple[Told, ...], Field(min_length=1, max_length=len(TOLD))] = LAST


def _of_text(given: Any) -> Any:
    return {"url": given} if isinstance(given, str) else given


WebhookField = Annotated[
    WebhookWish | None, BeforeValidator(_of_text, json_schema_input_type=str | WebhookWish | None)
]  # fmt: skip
"""A URL alone, or the whole wish."""


class Desk:
    """Where webhooks are asked for. `enabled`: whether the server's owner allows any."""

    def __init__(self, enabled: bool, addresses: Addresses) -> None:
        self._enabled = enabled
        self._addresses = addresses

    def check(self, wish: WebhookWish | None) -> None:
        """InvalidRequest where no webhook is allowed or its URL is none, as far as that shows without asking DNS."""
        if wish is not None and not self._enabled:
            hint = "Follow GET /v1/jobs/{id}/stream, or let the server's owner set webhooks.enabled = true."
            raise InvalidRequest(InvalidValue("webhook", "webhooks are switched off on this server", hint))
        if wish is not None:
            self._addresses.parsed(wish.url)

    async def take(self, wish: WebhookWish | None) -> Webhook | None:
        """The webhook as the job keeps it; InvalidRequest where the URL leads to what it may not."""
        if wish is None:
            return None
        await self._addresses.of(self._addresses.parsed(wish.url))
        return Webhook(wish.url, tuple(dict.fromkeys(wish.events)))

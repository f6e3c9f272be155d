"""The native door's routes, gathered; and what all of them share: services, owner, and the problems they may answer."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import Depends, Request

from safelight.server.services import OWNER, Services


async def services_of(request: Request) -> Services:
    """The services of the program that answers."""
    return cast(Services, request.app.state.services)


async def owner_of(request: Request) -> str:
    """On whose behalf the request comes."""
    return OWNER


Reach = Annotated[Services, Depends(services_of)]
Owner = Annotated[str, Depends(owner_of)]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problem responses of a route, for its description."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemView"}}}
    return {status: {"description": _WORDS[status], "content": content} for status in statuses}


def json_body(schema: dict[str, Any]) -> dict[str, Any]:
    """The description of a body that the route reads by itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_WORDS: dict[int, str] = {
    403: "The caller may not do this",
    404: "Nothing has that id",
    409: "It contradicts what is stored",
    413: "The body is too large",
    415: "The body's media type is not read here",
    416: "The range lies outside of the file",
    422: "The request cannot be carried out as asked",
    429: "Too much is queued or open; see Retry-After",
    503: "The server is not ready or is stopping",
}

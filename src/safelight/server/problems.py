"""Problem documents (RFC 9457): every error of the HTTP edge in one form, and no trace in any of them.

`{type, title, status, detail, kind, hint?, errors?: [{path, message, hint}]}` as application/problem+json. `kind` is
the error's name in `errors.py` (or one of `HTTP_KINDS`); `type` leads to its line in `/docs`.
"""

from __future__ import annotations

import errno
import json
import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from safelight import errors

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class NotAllowed(errors.SafelightError):
    """The caller may not do this: a foreign host or origin, a missing or wrong token."""

    kind = "not_allowed"


class TooLarge(HTTPException, errors.SafelightError):
    """The body is longer than the route takes. An HTTPException too, so that body parsers let it through."""

    kind = "too_large"

    def __init__(self, limit: int) -> None:
        message = f"The body is larger than {limit} bytes, the most that is read here."
        HTTPException.__init__(self, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        self.message = message
        self.hint = "Pictures go to POST /v1/uploads; the job then refers to them by id."


class WrongMediaType(errors.SafelightError):
    """The body is of a media type the route does not read."""

    kind = "unsupported_media_type"


class RangeNotSatisfiable(errors.SafelightError):
    """The Range asked for lies outside of the file. `size`: its bytes."""

    kind = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"The range lies outside of the file's {size} bytes.", "Ask for a range within it.")
        self.size = size


class Stopping(errors.SafelightError):
    """The server is on its way down and accepts nothing new."""

    kind = "stopping"

    def __init__(self) -> None:
        super().__init__("The server is stopping and accepts no more jobs.", "Accepted jobs go on at its next start.")


class LookupsBusy(errors.SafelightError):
    """Too many host names are being looked up to ask for another now. It says nothing about the name."""

    kind = "lookups_busy"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"The host {host!r} cannot be looked up now: this server waits for the answers about other names.",
            "Try again in a few seconds; if it stays so, check this server's DNS.",
        )


class DiskFull(errors.SafelightError):
    """Nothing can be written where the data folder lies. `method`: of the request that was to be answered."""

    kind = "disk_full"

    def __init__(self, error: OSError, method: str) -> None:
        came = "The answer could not be made" if method in ("GET", "HEAD") else "Nothing was accepted"
        way = "Let it be written to" if error.errno == errno.EROFS else "Free space"
        super().__init__(
            f"The data folder takes no more files: {error.strerror}. {came}, nothing accepted is lost.",
            f"{way} where the data folder lies; then try again.",
        )


STATUS: dict[type[errors.SafelightError], int] = {
    errors.InvalidRequest: 422,
    errors.OperationUnavailable: 422,
    errors.UnreadableFile: 422,
    errors.WorkerUnavailable: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.StaleAttempt: 409,
    errors.QueueFull: 429,
    errors.StoreUnusable: 503,
    errors.ServerNotRunning: 503,
    errors.OutOfMemory: 507,
    DiskFull: 507,
    NotAllowed: 403,
    TooLarge: 413,
    WrongMediaType: 415,
    RangeNotSatisfiable: 416,
    Stopping: 503,
    LookupsBusy: 503,
}
"""The status of each error; its class's own or its nearest parent's."""

TITLES: dict[str, str] = {
    "invalid_request": "The request cannot be carried out as asked",
    "operation_unavailable": "Nothing here carries out this operation",
    "unreadable_file": "The file cannot be read",
    "worker_unavailable": "No worker can take this",
    "not_found": "There is nothing of that name",
    "conflict": "The request contradicts what is stored",
    "stale_attempt": "The attempt is over",
    "queue_full": "The queue is full",
    "store_unusable": "The store cannot be used",
    "server_not_running": "No server answers",
    "out_of_memory": "It does not fit into memory",
    "disk_full": "The disk takes no more files",
    "not_allowed": "The caller may not do this",
    "too_large": "The body is too large",
    "unsupported_media_type": "The body is of a type that is not read here",
    "range_not_satisfiable": "The range lies outside of the file",
    "method_not_allowed": "The route has no such method",
    "stopping": "The server is stopping",
    "lookups_busy": "Host names cannot be looked up now",
    "error": "Something went wrong",
    "internal": "Something went wrong inside the server",
}
"""Every kind of problem with its title: the table that `/docs` shows."""

HTTP_KINDS: dict[int, str] = {403: "not_allowed", 404: "not_found", 405: "method_not_allowed", 413: "too_large",
                              415: "unsupported_media_type", 422: "invalid_request"}  # fmt: skip


RETRY_AFTER_S = 5
"""When to try again what a stop, a locked database, a full disk or a busy lookup prevented."""


def status_of(error: errors.SafelightError) -> int:
    """The HTTP status that tells of `error`."""
    return next((STATUS[each] for each in type(error).__mro__ if each in STATUS), 500)


def document(kind: str, status: int, detail: str, hint: str = "", *,
             faults: tuple[errors.InvalidValue, ...] = ()) -> dict[str, Any]:  # fmt: skip
    """A problem document as a JSON object."""
    problem: dict[str, Any] = {
        "type": f"/docs#problem-{kind}",
        "title": TITLES.get(kind, TITLES["error"]),
        "status": status,
        "kind": kind,
        "detail": detail,
    }
    if hint:
        problem["hint"] = hint
    if faults:
        problem["errors"] = [{"path": each.path, "message": each.message, "hint": each.hint} for each in faults]
    return problem


def of(error: errors.SafelightError) -> dict[str, Any]:
    """The problem document of one of our errors."""
    faults = error.errors if isinstance(error, errors.InvalidRequest) else ()
    return document(error.kind, status_of(error), error.message if not faults else str(error), error.hint,
                    faults=faults)  # fmt: skip


def answer(problem: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """The response that carries a problem document."""
    return Response(json.dumps(problem), problem["status"], dict(headers or {}), MEDIA_TYPE)


def respond(error: errors.SafelightError) -> Response:
    """The response to one of our errors, with the headers that belong to it."""
    headers: dict[str, str] = {}
    if isinstance(error, errors.QueueFull):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    elif isinstance(error, Stopping | LookupsBusy | errors.StoreUnusable | DiskFull):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    elif isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    return answer(of(error), headers)


def install(web: FastAPI) -> None:
    """Make `web` answer every error with a problem document."""
    web.add_exception_handler(errors.SafelightError, _ours)
    web.add_exception_handler(RequestValidationError, _invalid_parameters)
    web.add_exception_handler(HTTPException, _http)
    web.add_exception_handler(OSError, _disk)
    web.add_exception_handler(Exception, _unexpected)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.SafelightError)
    return respond(error)


async def _invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [
        errors.InvalidValue(
            ".".join(str(part) for part in each["loc"][1:]),
            f"{str(each.get('input'))[:80]!r} is refused: {each['msg'][0].lower()}{each['msg'][1:]}",
            f"See the parameters of {request.url.path} in /docs.",
        )
        for each in error.errors()
    ]
    return respond(errors.InvalidRequest(*faults))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, errors.SafelightError):
        return respond(error)
    kind = HTTP_KINDS.get(error.status_code, "error")
    details = {
        404: f"There is no route {request.url.path}.",
        405: f"{request.url.path} does not take {request.method}.",
    }
    hint = "See /docs for the routes." if error.status_code in details else ""
    detail = details.get(error.status_code, str(error.detail))
    return answer(document(kind, error.status_code, detail, hint), error.headers)


async def _disk(request: Request, error: Exception) -> Response:
    if isinstance(error, OSError) and error.errno in errors.UNWRITABLE:
        log.warning("%s %s: %s", request.method, request.url.path, error)
        return respond(DiskFull(error, request.method))
    raise error


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(document("internal", 500, f"{type(error).__name__}: see the server's log for what happened."))

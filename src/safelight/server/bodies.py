"""Reading request bodies: JSON by the standard and nothing else, small JSON models, and query parameters' limits."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from fastapi import Request
from pydantic import BaseModel, ValidationError

from safelight.core.names import nearest
from safelight.errors import InvalidRequest, InvalidValue
from safelight.server.problems import WrongMediaType

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request) -> Any:
    """The decoded body. WrongMediaType unless it says it is JSON (a foreign page's form cannot); InvalidRequest."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise WrongMediaType(
            f"The body is {media_type or 'of no stated type'}, not JSON.", "Send Content-Type: application/json."
        )
    body = await request.body()
    if not body:
        raise InvalidRequest(InvalidValue("", "the body is empty", "Send a JSON object."))
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(InvalidValue("", f"the body is not JSON: {error}", "Check it with a JSON tool.")) from None
    except RecursionError:
        raise InvalidRequest(InvalidValue("", "the body is nested too deeply", "Flatten it.")) from None


async def read_model(request: Request, model: type[M]) -> M:
    """The body as a small model; InvalidRequest with every fault."""
    body = await read_json(request)
    try:
        return model.model_validate(body)
    except ValidationError as error:
        faults = []
        for detail in error.errors(include_url=False):
            path = ".".join(str(part) for part in detail["loc"])
            hint = f"Known fields: {', '.join(model.model_fields)}."
            if detail["type"] == "extra_forbidden":
                near = nearest(path, model.model_fields, 1)
                hint = f"Did you mean {near[0]!r}?" if near else hint
                faults.append(InvalidValue(path, f"there is no field {path!r}", hint))
            else:
                message = f"{detail['msg'][0].lower()}{detail['msg'][1:]}"
                faults.append(InvalidValue(path, f"{str(detail['input'])[:80]!r} is refused: {message}", hint))
        raise InvalidRequest(*faults) from None

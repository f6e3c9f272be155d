"""The description of the HTTP interface, made from the routes and the contract so that it cannot tell otherwise."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import safelight
from safelight.core.events import EVENT_HELP, EventKind
from safelight.core.operations import Contract
from safelight.server.doors.native.artifacts import ArtifactChange
from safelight.server.doors.native.jobs import JobChange
from safelight.server.doors.native.views import ProblemView
from safelight.server.submissions import Envelope

REF = "#/components/schemas/{model}"


class EventView(BaseModel):
    """The `data` of a server-sent event. `number` within the job, `sequence` over all jobs; 0 for unstored ones."""

    job_id: str
    kind: EventKind
    number: int
    sequence: int
    at: float
    data: dict[str, Any]


def describe(web: FastAPI, contract: Contract) -> dict[str, Any]:
    """The OpenAPI document."""
    document: dict[str, Any] = get_openapi(
        title="Safelight", version=safelight.__version__, routes=web.routes,
        description="A self-hosted server for diffusion images and video. Errors are problem documents (RFC 9457).",
    )  # fmt: skip
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    union = contract.request_schema()
    schemas.update(union.pop("$defs", {}))
    _, extra = models_json_schema(
        [(model, "validation") for model in (Envelope, JobChange, ArtifactChange, ProblemView, EventView)],
        ref_template=REF,
    )
    schemas.update(extra["$defs"])
    beside = schemas.pop("Envelope")["properties"]
    for spec in contract.table:
        own = schemas[spec.request.__name__]
        own["properties"].update(beside)
        own["properties"]["operation"] = {"enum": [spec.id, *spec.aliases], "type": "string", "title": "Operation"}
        own["required"] = ["operation", *(each for each in own.get("required", ()) if each != "operation")]
    schemas["Submission"] = {"title": "Submission", **union}
    schemas["EventView"]["properties"]["data"]["description"] = "; ".join(
        f"{kind}: {help}" for kind, help in EVENT_HELP.items()
    )
    return document

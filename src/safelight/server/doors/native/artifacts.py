"""Routes of finished files and of pictures that clients give."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from safelight.artifacts import read_metadata
from safelight.jobs.records import ArtifactFilter
from safelight.server.bodies import read_model
from safelight.server.byteranges import serve
from safelight.server.doors.native.routes import Owner, Reach, json_body, problems
from safelight.server.doors.native.views import (
    ArtifactPage,
    ArtifactView,
    MetadataView,
    UploadView,
    artifact_view,
    timings,
    upload_view,
)

router = APIRouter(prefix="/v1", tags=["files"])

_BINARY = {"schema": {"type": "string", "format": "binary"}}
FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": {"image/*": _BINARY}},
    206: {"description": "The range asked for", "content": {"image/*": _BINARY}},
    304: {"description": "The client has it"},
    **problems(403, 404, 416),
}
UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "description": "the picture itself, or a form with one file",
        "content": {
            "application/octet-stream": _BINARY,
            "image/*": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


class ArtifactSearch(BaseModel):
    """What artifacts are looked for; all of it must hold. What is not given may be anything."""

    model_config = ConfigDict(extra="forbid")

    prompt: Annotated[
        str | None, Field(max_length=500, description="words that stand in the prompt, each anywhere")
    ] = None
    model: Annotated[str | None, Field(max_length=500, description="the model's name")] = None
    seed: Annotated[int | None, Field(ge=0, lt=2**64)] = None
    tag: Annotated[str | None, Field(max_length=100, description="a tag of the job")] = None
    group: Annotated[str | None, Field(max_length=100, description="the group of the job")] = None
    since: Annotated[float | None, Field(description="made at this time or later: seconds since the epoch")] = None
    until: Annotated[float | None, Field(description="made before this time")] = None
    favourite: bool | None = None
    bin: Annotated[bool, Field(description="what lies in the bin, instead of what does not")] = False
    before: Annotated[str | None, Field(max_length=64, description="`next` of the last page")] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class ArtifactChange(BaseModel):
    """What an owner may change of an artifact. A favourite keeps its job, as pinning does."""

    model_config = ConfigDict(extra="forbid")

    favourite: bool


@router.get("/artifacts", responses=problems(403, 404, 422))
async def list_artifacts(services: Reach, owner: Owner, wanted: Annotated[ArtifactSearch, Query()]) -> ArtifactPage:
    """Finished files, newest first."""
    asked = wanted.model_dump(exclude={"prompt", "bin"})
    found = await services.store.artifacts(ArtifactFilter(owner, wanted.prompt, binned=wanted.bin, **asked))
    following = found[-1].id if len(found) == wanted.limit else None
    return ArtifactPage(artifacts=[artifact_view(each) for each in found], next=following)


@router.api_route("/artifacts/{artifact_id}", methods=["GET"], responses=FILE, response_class=Response)
@router.api_route("/artifacts/{artifact_id}", methods=["HEAD"], include_in_schema=False)
async def read_artifact(services: Reach, owner: Owner, request: Request, artifact_id: str) -> Response:
    """The file as it was written, metadata inside. Takes Range; its ETag is the content's SHA-256."""
    artifact = await services.store.artifact(artifact_id, owner)
    suffix = artifact.media_type.partition("/")[2] or "bin"
    return await serve(
        request,
        services.artifact_file(artifact.sha256),
        tag=artifact.sha256,
        media_type=artifact.media_type,
        filename=f"{artifact.id}.{suffix}",
    )


@router.patch("/artifacts/{artifact_id}", responses=problems(403, 404, 413, 415, 422),
              openapi_extra=json_body({"$ref": "#/components/schemas/ArtifactChange"}))  # fmt: skip
async def change_artifact(services: Reach, owner: Owner, request: Request, artifact_id: str) -> ArtifactView:
    """Make it a favourite, which keeps its job as pinning does, or an ordinary one again."""
    change = await read_model(request, ArtifactChange)
    return artifact_view(await services.store.update_artifact(artifact_id, owner, favourite=change.favourite))


@router.delete("/artifacts/{artifact_id}", responses=problems(403, 404))
async def bin_artifact(services: Reach, owner: Owner, artifact_id: str) -> ArtifactView:
    """Put it in the bin: it is removed for good after `storage.bin_days`, with its file where nothing else names that.
    Of a running or pinned job nothing is removed."""
    return artifact_view(await services.store.update_artifact(artifact_id, owner, binned=True))


@router.post("/artifacts/{artifact_id}/restore", responses=problems(403, 404))
async def restore_artifact(services: Reach, owner: Owner, artifact_id: str) -> ArtifactView:
    """Take it out of the bin."""
    return artifact_view(await services.store.update_artifact(artifact_id, owner, binned=False))


@router.get("/artifacts/{artifact_id}/thumbnail", responses=FILE, response_class=Response)
async def read_thumbnail(
    services: Reach,
    owner: Owner,
    request: Request,
    artifact_id: str,
    side: Annotated[int, Query(ge=16, le=1024, description="the longer side, in pixels")] = 256,
) -> Response:
    """A small WebP of the picture, made once."""
    artifact = await services.store.artifact(artifact_id, owner)
    path = await services.pictures.thumbnail(services.artifact_file(artifact.sha256), artifact.sha256, side)
    return await serve(
        request,
        path,
        tag=f"{artifact.sha256}-{side}",
        media_type="image/webp",
        filename=f"{artifact.id}-{side}.webp",
    )


@router.get("/artifacts/{artifact_id}/metadata", responses=problems(403, 404))
async def artifact_metadata(services: Reach, owner: Owner, artifact_id: str) -> MetadataView:
    """What made the file: everything that is needed to make it again."""
    artifact = await services.store.artifact(artifact_id, owner)
    job = await services.store.get(artifact.job_id, owner)
    texts = await asyncio.to_thread(read_metadata, services.artifact_file(artifact.sha256))
    return MetadataView(
        artifact=artifact_view(artifact),
        operation=job.operation,
        request=job.request,
        resolved=job.resolved,
        timings=timings(job),
        texts=texts,
    )


@router.post("/uploads", status_code=201, responses=problems(403, 413, 415, 422), openapi_extra=UPLOAD_BODY)
async def upload_picture(services: Reach, owner: Owner, request: Request) -> UploadView:
    """Keep a picture, told by its content; its id can stand wherever a request takes a picture."""
    return upload_view(await services.pictures.take(owner, request))

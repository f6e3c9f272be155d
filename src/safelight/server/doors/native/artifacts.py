"""Routes of finished files and of pictures that clients give."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from safelight.artifacts import read_metadata
from safelight.jobs.records import ArtifactFilter
from safelight.server.byteranges import serve
from safelight.server.doors.native.routes import Owner, Reach, problems
from safelight.server.doors.native.views import (
    ArtifactPage,
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


@router.get("/artifacts", responses=problems(403, 404, 422))
async def list_artifacts(
    services: Reach,
    owner: Owner,
    before: Annotated[str | None, Query(max_length=64, description="`next` of the last page")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ArtifactPage:
    """Finished files, newest first."""
    found = await services.store.artifacts(ArtifactFilter(owner=owner, before=before, limit=limit))
    following = found[-1].id if len(found) == limit else None
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

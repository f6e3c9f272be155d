"""Pictures that clients give us: taken in within bounds, inspected in another process, kept under their content's name.

A request may name one by its id, or an artifact by its id, or hold the picture itself as base64, which is kept first.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from safelight.artifacts import Files
from safelight.core.files import UploadRef
from safelight.core.media import MAX_UPLOAD_BYTES
from safelight.core.names import is_id, new_id
from safelight.errors import InvalidRequest, InvalidValue, NotFound, UnreadableFile
from safelight.jobs.records import Upload
from safelight.jobs.store import Store
from safelight.server.problems import TooLarge, WrongMediaType

CHUNK = 1024 * 1024
FORM_FIELDS = 8


class Facts(Protocol):
    """What the files process says of a picture."""

    @property
    def media_type(self) -> str:
        """As its content shows."""
        ...

    @property
    def width(self) -> int:
        """Pixels, as stored."""
        ...

    @property
    def height(self) -> int:
        """Pixels, as stored."""
        ...


class Inspector(Protocol):
    """Looks at untrusted files elsewhere; UnreadableFile in words."""

    async def inspect(self, path: Path) -> Facts:
        """The facts of a whole picture of a kind and size that is taken."""
        ...

    async def thumbnail(self, path: Path, side: int) -> bytes:
        """A WebP whose longer side is at most `side` pixels."""
        ...


class Pictures:
    """`uploads`, `artifacts`: content-addressed files; `thumbnails`: a folder that may be emptied at any time."""

    def __init__(self, store: Store, inspector: Inspector, uploads: Files, artifacts: Files, thumbnails: Path) -> None:
        self._store = store
        self._inspector = inspector
        self._uploads = uploads
        self._artifacts = artifacts
        self._thumbnails = thumbnails

    async def take(self, owner: str, request: Request) -> Upload:
        """Keep the picture that a request's body is, or the one file of its form."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == "multipart/form-data":
            return await self._take_form(owner, request)
        if media_type.startswith("image/") or media_type == "application/octet-stream":
            return await self.keep(owner, request.stream())
        hint = "Send the picture's bytes as application/octet-stream or image/*, or a multipart form with a file."
        raise WrongMediaType(f"A body of type {media_type or '(none)'} is no picture.", hint)

    async def keep(self, owner: str, chunks: AsyncIterator[bytes]) -> Upload:
        """Keep a picture that comes in pieces; UnreadableFile where it is none or one that is refused."""
        temporary = await asyncio.to_thread(self._uploads.temporary)
        try:
            size = await self._receive(temporary, chunks)
            if not size:
                raise UnreadableFile("The picture is empty.", "Send the bytes of its file.")
            facts = await self._inspector.inspect(temporary)
            digest = await asyncio.to_thread(self._uploads.adopt, temporary)
        finally:
            await asyncio.to_thread(temporary.unlink, missing_ok=True)
        return await self._store.add_upload(Upload(digest, owner, facts.media_type, size, facts.width, facts.height))

    async def resolve(self, owner: str, value: str, field: str) -> UploadRef:
        """The kept picture that a request's `field` means; what is given as base64 is kept first."""
        try:
            return await (self._known(owner, value) if is_id(value) else self._inline(owner, value))
        except (NotFound, UnreadableFile) as error:
            raise InvalidRequest(InvalidValue(field, error.message, error.hint)) from None

    async def thumbnail(self, path: Path, sha256: str, side: int) -> Path:
        """A WebP of the picture at `path`, whose content is `sha256`; made once."""
        target = self._thumbnails / sha256[:2] / f"{sha256}-{side}.webp"
        if not await asyncio.to_thread(target.is_file):
            if not await asyncio.to_thread(path.is_file):
                raise NotFound(f"The file of the content {sha256} is gone.", "It was removed from the data folder.")
            await asyncio.to_thread(_write, target, await self._inspector.thumbnail(path, side))
        return target

    async def _known(self, owner: str, name: str) -> UploadRef:
        upload = None
        with suppress(NotFound):
            upload = await self._store.upload(name, owner)
        if upload is not None:
            return _ref(upload.id, upload.id, await self._held(self._uploads, upload.id), upload)
        try:
            artifact = await self._store.artifact(name, owner)
        except NotFound:
            hint = "Give the id of an upload (POST /v1/uploads) or of an artifact, or the picture as base64."
            raise NotFound(f"there is no upload or artifact {name!r}", hint) from None
        return _ref(artifact.id, artifact.sha256, await self._held(self._artifacts, artifact.sha256), artifact)

    @staticmethod
    async def _held(files: Files, sha256: str) -> Path:
        """Where the content lies. It counts as put now, so that tidying leaves it until the job that names it is
        stored, also where the row that named it so far goes meanwhile (out of the bin, or by its age)."""
        if not await asyncio.to_thread(files.freshen, sha256):
            raise NotFound(f"the file of the content {sha256} is gone", "It was removed; send the picture again.")
        return files.path(sha256)

    async def _inline(self, owner: str, text: str) -> UploadRef:
        if text.startswith("data:"):
            text = text.partition(",")[2]
        try:
            data = await asyncio.to_thread(base64.b64decode, "".join(text.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            hint = "Give a picture as base64 (with or without a data: prefix), or the id of an upload or artifact."
            raise UnreadableFile(f"is no base64: {error}", hint) from None
        if len(data) > MAX_UPLOAD_BYTES:
            raise UnreadableFile(f"{len(data)} bytes are more than {MAX_UPLOAD_BYTES}", "Give a smaller picture.")
        upload = await self.keep(owner, _once(data))
        return _ref(upload.id, upload.id, self._uploads.path(upload.id), upload)

    async def _take_form(self, owner: str, request: Request) -> Upload:
        try:
            async with request.form(max_files=1, max_fields=FORM_FIELDS) as form:
                given = [each for each in form.values() if isinstance(each, UploadFile)]
                if len(given) != 1:
                    raise InvalidRequest(InvalidValue("file", f"the form has {len(given)} files", "Send exactly one."))
                return await self.keep(owner, _pieces(given[0]))
        except HTTPException as error:  # what Starlette makes of a form it cannot parse
            if isinstance(error, TooLarge):
                raise
            fault = InvalidValue("", f"the form is refused: {error.detail}", "Send one file as multipart/form-data.")
            raise InvalidRequest(fault) from None

    async def _receive(self, target: Path, chunks: AsyncIterator[bytes]) -> int:
        """Write what comes to `target`; its bytes."""
        size = 0
        with await asyncio.to_thread(target.open, "xb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > MAX_UPLOAD_BYTES:
                    raise TooLarge(MAX_UPLOAD_BYTES)
                await asyncio.to_thread(file.write, chunk)
        return size


def _ref(name: str, sha256: str, path: Path, facts: Facts) -> UploadRef:
    return UploadRef(id=name, path=str(path), sha256=sha256, media_type=facts.media_type,
                     width=facts.width, height=facts.height)  # fmt: skip


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(CHUNK):
        yield piece


def _write(target: Path, data: bytes) -> None:
    """Write a file whole or not at all; it may be made again, so it is not synced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{new_id()}")
    temporary.write_bytes(data)
    temporary.replace(target)

"""Handing in work: the one way from what any door was asked to a durable job.

The envelope (priority, tags, ...) is told apart from the operation, pictures inside it become kept files, the request
is checked and resolved, and only then is the job committed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from safelight.core.files import FileRef, UploadRef
from safelight.core.names import attribute, is_id, new_id, one_of
from safelight.core.operations import Contract
from safelight.core.registry import Registry
from safelight.core.tables import Tables
from safelight.errors import Conflict, InvalidRequest, InvalidValue
from safelight.jobs.records import Job, NewJob
from safelight.jobs.store import Store
from safelight.server.pictures import Pictures
from safelight.server.problems import Stopping
from safelight.server.webhooks.wishes import Desk, WebhookField
from safelight.workflows.context import Catalog, Context

PICTURE_FIELDS = ("image", "mask")
"""Fields of operations that hold a picture: an id, or the picture itself as base64."""

Tag = Annotated[str, Field(min_length=1, max_length=100)]
Group = Annotated[str, Field(min_length=1, max_length=100)]


class Envelope(BaseModel):
    """What may stand beside an operation's own fields in a submission."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    priority: Annotated[int, Field(ge=-10, le=10, strict=True, description="higher goes first")] = 0
    tags: Annotated[tuple[Tag, ...], Field(max_length=32, description="words to find the job by")] = ()
    group: Annotated[Group | None, Field(description="what belongs together, such as the pictures of a grid")] = None
    worker: Annotated[
        str | None, Field(max_length=100, description="a worker's id or device that must run it; see /v1/system")
    ] = None
    not_before: Annotated[
        float | None, Field(ge=0, le=1e11, description="do not start earlier: seconds since the epoch")
    ] = None
    deadline_s: Annotated[
        float | None, Field(gt=0, le=1e9, description="give up if it still waits this many seconds from now")
    ] = None
    webhook: Annotated[
        WebhookField, Field(description="an https URL that is told of its end, or {url, events}; see webhooks.enabled")
    ] = None


class Submissions:
    """The desk where jobs are handed in. `worker_names`: ids and devices a job may be pinned to."""

    def __init__(self, *, store: Store, contract: Contract, tables: Tables, catalog: Catalog, pictures: Pictures,
                 worker_names: Callable[[], set[str]], webhooks: Desk, max_queued: int) -> None:  # fmt: skip
        self._store = store
        self._contract = contract
        self._tables = tables
        self._catalog = catalog
        self._pictures = pictures
        self._worker_names = worker_names
        self._webhooks = webhooks
        self._max_queued = max_queued
        self.accepted: Callable[[], None] = lambda: None
        self.open = True

    async def submit(self, owner: str, body: Any, *, job_id: str | None = None, key: str | None = None) -> Job:
        """The job that `body` (decoded JSON) asks for, committed, or the one that is there already.

        `job_id`: the client's own id; `key`: its idempotency key. Raises InvalidRequest, OperationUnavailable,
        Conflict, QueueFull, Stopping.
        """
        self._check_open()
        if job_id is not None and not is_id(job_id):
            hint = "Use 1 to 64 letters, digits, - and _, with a letter or digit in front."
            raise InvalidRequest(InvalidValue("id", f"{job_id[:80]!r} cannot be a job's id", hint))
        envelope, asked = self._read(body)
        pictures = {
            field: await self._pictures.resolve(owner, value, field)
            for field in PICTURE_FIELDS
            if isinstance(value := getattr(asked, field, None), str)
        }
        asked = asked.model_copy(update={field: picture.id for field, picture in pictures.items()})
        request = asked.model_dump(mode="json", exclude_unset=True, exclude={"operation"})
        request = {"operation": asked.operation, **request}  # type: ignore[attr-defined]
        spec = self._contract.spec(request["operation"])
        new = NewJob(
            id=job_id or new_id(),
            owner=owner,
            operation=spec.id,
            request=request,
            resolved={},
            fingerprint=fingerprint(request, envelope),
            idempotency_key=key,
            priority=envelope.priority,
            tags=envelope.tags,
            group=envelope.group,
            worker=envelope.worker or getattr(asked, "device", None),
            not_before=envelope.not_before,
            deadline=None if envelope.deadline_s is None else self._store.steady() + envelope.deadline_s,
        )
        # A repeat is the job that is there, also where it could not be resolved any more: its model may be gone.
        if (job_id or key) and (there := await self._store.repeated(new)) is not None:
            return there
        webhook = await self._webhooks.take(envelope.webhook)
        resolved = await asyncio.to_thread(attribute(spec.resolve), asked, self._context(pictures))
        new = replace(new, resolved=resolved.model_dump(mode="json"), webhook=webhook, **self._needs(resolved))
        job, _ = await self._store.submit(new, self._max_queued)
        self.accepted()
        return job

    async def retry(self, owner: str, job_id: str) -> Job:
        """A new job of the same resolved request; Conflict while the old one is not over."""
        self._check_open()
        old = await self._store.get(job_id, owner)
        if not old.state.over:
            raise Conflict(
                f"The job {job_id} is {old.state}; only one that is over can be retried.", "Cancel it first."
            )
        resolved = self._contract.load(old.resolved)
        job, _ = await self._store.submit(
            NewJob(
                id=new_id(),
                owner=owner,
                operation=old.operation,
                request=old.request,
                resolved=old.resolved,
                fingerprint=old.fingerprint,
                priority=old.priority,
                tags=old.tags,
                group=old.group,
                worker=old.worker,
                retry_of=old.id,
                webhook=old.webhook,
                **self._needs(resolved),
            ),
            self._max_queued,
        )
        self.accepted()
        return job

    def _check_open(self) -> None:
        if not self.open:
            raise Stopping

    def _read(self, body: Any) -> tuple[Envelope, BaseModel]:
        """The envelope and the request; everything that is wrong with either in one InvalidRequest."""
        if not isinstance(body, dict):
            hint = 'Send one like {"operation": "image.generate", "prompt": "a lighthouse"}.'
            raise InvalidRequest(InvalidValue("", f"the body is no object but {str(body)[:80]!r}", hint))
        beside = {name: value for name, value in body.items() if name in Envelope.model_fields}
        inside = {name: value for name, value in body.items() if name not in Envelope.model_fields}
        faults: list[InvalidValue] = []
        envelope = Envelope()
        try:
            envelope = Envelope.model_validate(beside)
        except ValidationError as error:
            faults += [_fault(detail["loc"], detail["input"], detail["msg"]) for detail in error.errors()]
        names = self._worker_names()
        there = one_of(sorted(names)) or "none yet"
        if envelope.worker is not None and envelope.worker not in names:
            faults.append(InvalidValue("worker", f"there is no worker {envelope.worker!r}", f"There are: {there}."))
        try:
            self._webhooks.check(envelope.webhook)
        except InvalidRequest as error:
            faults += error.errors
        try:
            request = self._contract.parse(inside)
        except InvalidRequest as error:
            raise InvalidRequest(*faults, *error.errors) from None
        device = getattr(request, "device", None)
        if device is not None and device not in names:
            faults.append(InvalidValue("device", f"there is no worker or device {device!r}", f"There are: {there}."))
        elif device is not None and envelope.worker not in (None, device):
            said = f"{device!r} is asked for, and the worker {envelope.worker!r} too"
            faults.append(InvalidValue("device", said, "Give one of the two."))
        if faults:
            raise InvalidRequest(*faults)
        return envelope, request

    def _context(self, pictures: dict[str, UploadRef]) -> Context:
        return Context(catalog=self._catalog, tables=self._tables, pictures=pictures)

    def _needs(self, resolved: BaseModel) -> dict[str, Any]:
        """What the dispatcher and retention want to know: the weights, a rough count of bytes, the kept files."""
        weights = getattr(resolved, "model", None)
        meant = weights or getattr(resolved, "file", None)  # to be let go of: by who holds it, without room for it
        loras = getattr(resolved, "loras", ())
        kept = [ref for field in PICTURE_FIELDS if isinstance(ref := getattr(resolved, field, None), UploadRef)]
        weighing = sum(ref.size for ref in (weights, *(use.file for use in loras)) if isinstance(ref, FileRef))
        return {
            "model_key": meant.key if isinstance(meant, FileRef) else "",
            "bytes_needed": weighing + work_bytes(resolved, self._tables.families),
            "weights_bytes": weighing,
            "files": tuple(ref.sha256 for ref in kept),
        }


def work_bytes(resolved: BaseModel, families: Registry[Any]) -> int:
    """Rough working memory of one picture of the request, before anything was measured."""
    family = families.find(getattr(resolved, "family", ""))
    if family is None:
        return 0
    return int(family.bytes_per_pixel * getattr(resolved, "width", 0) * getattr(resolved, "height", 0))


def fingerprint(request: dict[str, Any], envelope: Envelope) -> str:
    """SHA-256 of the canonical body: equal for requests that ask for the same in the same words or aliases."""
    body = {**request, **envelope.model_dump(mode="json", exclude_unset=True)}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _fault(location: tuple[int | str, ...], given: Any, message: str) -> InvalidValue:
    path = ".".join(str(part) for part in location)
    said = Envelope.model_fields[str(location[0])].description or ""
    return InvalidValue(
        path, f"{str(given)[:80]!r} is refused: {message[0].lower()}{message[1:]}", said[:1].upper() + said[1:]
    )

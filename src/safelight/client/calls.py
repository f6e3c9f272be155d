"""Every request the client makes, as data: what the two clients share, so that neither repeats the other's wisdom."""

from __future__ import annotations

import base64
import io
import json
import mimetypes
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

import httpx

from safelight.client import address
from safelight.client.address import Address
from safelight.client.answers import Job
from safelight.errors import InvalidRequest, InvalidValue, ServerNotRunning
from safelight.settings import load_settings

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
Source: TypeAlias = "str | bytes | Path | Image"
"""A picture to give: a file's path, its bytes, a Pillow image, or (in a request) the id of an upload or artifact."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request and how its answer is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    json: Mapping[str, Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None


def encoded(call: Call[Any]) -> tuple[dict[str, str], bytes | None]:
    """(headers, content) of a request as they are sent; InvalidRequest names the field that JSON cannot hold."""
    if call.json is None:
        return dict(call.headers), call.content
    for name, value in call.json.items():
        try:
            _json(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            said = f"{str(value)[:80]!r} of type {type(value).__name__} cannot be sent: {error}"
            hint = "Give plain numbers, texts, lists and dicts; int(...) or float(...) makes one of a NumPy number."
            raise InvalidRequest(InvalidValue(str(name), said, hint)) from None
    return {**call.headers, "Content-Type": "application/json"}, _json(call.json)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _job(response: httpx.Response) -> Job:
    return Job.of(response.json())


def _object(response: httpx.Response) -> dict[str, Any]:
    made: dict[str, Any] = response.json()
    return made


def _listed(name: str) -> Callable[[httpx.Response], list[dict[str, Any]]]:
    return lambda response: list(response.json()[name])


def submit(body: Mapping[str, Any], key: str | None) -> Call[str]:
    """Hand in a job; its id. With a key of its own, so that sending it twice over a bad line is one job."""
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    return Call("POST", "/v1/jobs", lambda response: str(response.json()["id"]), json=body, headers=headers)


def job(job_id: str) -> Call[Job]:
    """Read a job."""
    return Call("GET", f"/v1/jobs/{quote(job_id, safe='')}", _job)


def jobs(filters: Mapping[str, Any]) -> Call[list[Job]]:
    """A page of jobs."""
    given = {name: value for name, value in filters.items() if value is not None}
    return Call("GET", "/v1/jobs", lambda response: [Job.of(each) for each in response.json()["jobs"]], params=given)


def change(job_id: str, changes: Mapping[str, Any]) -> Call[Job]:
    """Change priority, tags, group, pinned, paused."""
    return Call("PATCH", f"/v1/jobs/{quote(job_id, safe='')}", _job, json=dict(changes))


def cancel(job_id: str) -> Call[Job]:
    """Cancel a job."""
    return Call("POST", f"/v1/jobs/{quote(job_id, safe='')}/cancel", _job)


def retry(job_id: str) -> Call[str]:
    """Retry a job; the new one's id."""
    return Call("POST", f"/v1/jobs/{quote(job_id, safe='')}/retry", lambda response: str(response.json()["id"]))


def artifact(artifact_id: str) -> Call[bytes]:
    """A finished file's bytes."""
    return Call("GET", f"/v1/artifacts/{quote(artifact_id, safe='')}", lambda response: response.content)


def artifacts(search: Mapping[str, Any]) -> Call[list[dict[str, Any]]]:
    """A page of artifacts."""
    given = {name: value for name, value in search.items() if value is not None}
    return Call("GET", "/v1/artifacts", _listed("artifacts"), params=given)


def favourite(artifact_id: str, on: bool) -> Call[dict[str, Any]]:
    """Make an artifact a favourite, or not."""
    return Call("PATCH", f"/v1/artifacts/{quote(artifact_id, safe='')}", _object, json={"favourite": on})


def bin_artifact(artifact_id: str) -> Call[dict[str, Any]]:
    """Put an artifact in the bin."""
    return Call("DELETE", f"/v1/artifacts/{quote(artifact_id, safe='')}", _object)


def restore(artifact_id: str) -> Call[dict[str, Any]]:
    """Take an artifact out of the bin."""
    return Call("POST", f"/v1/artifacts/{quote(artifact_id, safe='')}/restore", _object)


def upload(source: Source) -> Call[str]:
    """Keep a picture; its id."""
    content = picture_bytes(source)
    headers = {"Content-Type": "application/octet-stream"}
    return Call("POST", "/v1/uploads", lambda response: str(response.json()["id"]), content=content, headers=headers)


def table(name: str) -> Call[list[dict[str, Any]]]:
    """One of the lists of what is there: models, loras, samplers, schedules, guidances, families, operations."""
    return Call("GET", f"/v1/{name}", _listed("data" if name == "models" else name))


def system() -> Call[dict[str, Any]]:
    """Versions, workers, jobs by state."""
    return Call("GET", "/v1/system", _object)


def ready() -> Call[dict[str, Any]]:
    """Whether jobs can run."""
    return Call("GET", "/ready", _object)


def shutdown(token: str) -> Call[dict[str, Any]]:
    """Stop the server."""
    return Call("POST", "/v1/shutdown", _object, headers={"Authorization": f"Bearer {token}"} if token else {})


def body(operation: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A submission: None is left out, pictures become base64 (or stay the ids they are)."""
    made: dict[str, Any] = {"operation": operation}
    for name, value in fields.items():
        if value is None:
            continue
        made[name] = inline(value) if name in ("image", "mask") else value
    return made


def inline(source: Source) -> str:
    """A picture as a request holds it: an id or base64 as it is, anything else as base64 of its bytes."""
    if isinstance(source, str) and not _is_file(source):
        return source
    return base64.b64encode(picture_bytes(source)).decode()


def picture_bytes(source: Source) -> bytes:
    """The bytes of a picture's file; a Pillow image becomes a PNG."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | Path):
        try:
            return Path(source).expanduser().read_bytes()
        except OSError as error:
            fault = InvalidValue("image", f"{str(source)[:200]} cannot be read: {error.strerror}", "Check the path.")
            raise InvalidRequest(fault) from None
    buffer = io.BytesIO()
    source.save(buffer, "PNG")
    return buffer.getvalue()


def _is_file(text: str) -> bool:
    """Whether a text is meant as a path: it ends like a picture's, or something lies there."""
    if len(text) > 4096 or text.startswith("data:"):
        return False
    kind = mimetypes.guess_type(text)[0] or ""
    return kind.startswith("image/") or Path(text).expanduser().is_file()


def find(url: str | None, home: Path | None = None) -> tuple[str, Address | None]:
    """(URL, address) of the server to use: `url`, SAFELIGHT_URL, or the one on the data folder.

    The address is None unless it is the server of this machine's data folder. ServerNotRunning where none is found.
    """
    chosen = (url or (os.environ.get("SAFELIGHT_URL") if home is None else None) or "").rstrip("/")
    if chosen and not chosen.startswith(("http://", "https://")):
        raise ServerNotRunning(f"{chosen!r} is no server's URL.", "It begins with http:// or https://.")
    folder = home or load_settings().storage.home
    local = address.read(folder)
    if chosen:
        return chosen, local if local is not None and local.url == chosen else None
    if local is None or not local.url:
        hint = "Start one with `safelight serve --detach` or Client.start(), or set SAFELIGHT_URL."
        raise ServerNotRunning(f"No server runs on {folder}.", hint)
    return local.url, local

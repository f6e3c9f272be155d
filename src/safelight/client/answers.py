"""What the client gives back: jobs, events, pictures; and a server's problem documents as the errors they tell of."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from safelight import errors

if TYPE_CHECKING:
    from PIL.Image import Image

OVER = frozenset({"succeeded", "failed", "cancelled"})
"""States, and kinds of events, after which nothing comes."""


class ServerProblem(errors.SafelightError):
    """A problem of a kind that has no class of its own. `status`: of the answer; `kind`: the server's name of it."""

    def __init__(self, message: str, hint: str = "", *, status: int = 0, kind: str = "error") -> None:
        super().__init__(message, hint)
        self.status = status
        self.kind = kind  # type: ignore[misc]


class JobFailed(errors.SafelightError):
    """The job ended without a picture. `job`: its record, with the attempts."""

    kind = "job_failed"

    def __init__(self, job: Job) -> None:
        failure = job.failure or {}
        said = failure.get("message") or "It was cancelled." if job.state == "cancelled" else failure.get("message", "")
        super().__init__(f"The job {job.id} is {job.state}. {said}".rstrip(), failure.get("hint", ""))
        self.job = job


@dataclass(frozen=True)
class Event:
    """One fact about a job. `number`: within the job, 0 for previews and text; `data` depends on `kind`."""

    job_id: str
    kind: str
    number: int
    sequence: int
    at: float
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A job's record as the server keeps it. `fields`: all of it; the rest are those that are asked for most."""

    id: str
    state: str
    operation: str
    result: Mapping[str, Any] | None
    failure: Mapping[str, Any] | None
    resolved: Mapping[str, Any]
    artifacts: tuple[Mapping[str, Any], ...]
    fields: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Job:
        """From the JSON of `/v1/jobs/{id}`."""
        return cls(
            id=fields["id"],
            state=fields["state"],
            operation=fields["operation"],
            result=fields["result"],
            failure=fields["failure"],
            resolved=fields["resolved"],
            artifacts=tuple(fields["artifacts"]),
            fields=fields,
        )

    @property
    def over(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in OVER


@dataclass(frozen=True)
class Picture:
    """A finished file, fetched. `data`: its bytes, metadata inside; sides in pixels."""

    id: str
    index: int
    media_type: str
    width: int
    height: int
    seed: int
    data: bytes = field(repr=False)

    def image(self) -> Image:
        """The picture for Pillow."""
        from PIL import Image

        opened = Image.open(io.BytesIO(self.data))
        opened.load()
        return opened

    def save(self, path: str | Path) -> Path:
        """Write the file as it is to `path`, or under its own name where that is a folder; where it was written."""
        target = Path(path)
        if target.is_dir():
            target = target / f"{self.id}.{self.media_type.partition('/')[2]}"
        target.write_bytes(self.data)
        return target


@dataclass(frozen=True)
class Result:
    """A job that succeeded, with its pictures in order."""

    job: Job
    artifacts: tuple[Picture, ...]

    def image(self, index: int = 0) -> Image:
        """One of the pictures for Pillow."""
        return self.artifacts[index].image()

    def save(self, path: str | Path) -> Path:
        """Write the first picture; where it was written."""
        return self.artifacts[0].save(path)


def picture(artifact: Mapping[str, Any], data: bytes) -> Picture:
    """An artifact of a job's record with its content."""
    names = ("id", "index", "media_type", "width", "height", "seed")
    return Picture(**{name: artifact[name] for name in names}, data=data)


def check(response: httpx.Response) -> httpx.Response:
    """The response (read), where it tells of no problem; else the error it tells of is raised."""
    if response.is_success:
        return response
    raise error_of(response)


def error_of(response: httpx.Response) -> errors.SafelightError:
    """The error that a problem document tells of."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict) or "kind" not in problem:
        hint = "Is that a Safelight server?"
        return ServerProblem(f"{response.request.url} answers {response.status_code}.", hint,
                             status=response.status_code)  # fmt: skip
    kind, message, hint = problem["kind"], problem.get("detail", ""), problem.get("hint", "")
    if kind == errors.InvalidRequest.kind and problem.get("errors"):
        return errors.InvalidRequest(*(errors.InvalidValue(**each) for each in problem["errors"]))
    if kind == errors.QueueFull.kind:
        return errors.QueueFull(message, hint, retry_after_s=float(response.headers.get("retry-after", 5)))
    known = {each.kind: each for each in errors.SafelightError.__subclasses__() if each.__module__ == errors.__name__}
    if kind in known and kind != errors.InvalidRequest.kind:
        return known[kind](message, hint)
    return ServerProblem(message, hint, status=response.status_code, kind=kind)

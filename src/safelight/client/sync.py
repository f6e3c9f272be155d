"""The client for ordinary programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from safelight.client import calls, launch
from safelight.client.answers import OVER, Event, Job, JobFailed, Result, check, error_of, picture
from safelight.client.calls import Call, Source
from safelight.client.sse import Reader
from safelight.errors import ServerNotRunning, UnreadableFile
from safelight.settings import load_settings, settings_of

T = TypeVar("T")

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
RECONNECT_S = 60.0
"""For how long a broken event stream is taken up again before the client gives up."""


class Client:
    """A Safelight server.

    `url`: of the server; SAFELIGHT_URL, else the one on this machine's data folder (`home`) if None. Raises
    ServerNotRunning where there is none; everything the server refuses is raised as the error it names
    (`safelight.errors`).
    """

    def __init__(self, url: str | None = None, api_key: str | None = None, *, home: Path | None = None,
                 transport: httpx.BaseTransport | None = None) -> None:  # fmt: skip
        self.url, self._local = calls.find(url, home)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT, transport=transport)

    @classmethod
    def start(cls, *, home: Path | None = None, wait_s: float = launch.START_S) -> Client:
        """A client of the server on the data folder, which is started in the background if none runs."""
        settings = load_settings()
        if home is not None:
            values = settings.values()
            values["storage"]["home"] = str(home.absolute())
            settings = settings_of(values, settings.environment)
        return cls(launch.start(settings, wait_s).url, home=settings.storage.home)

    def shutdown(self, wait_s: float = 30.0) -> None:
        """Stop the server and wait until its process has ended. Accepted jobs go on at its next start."""
        there = self._local
        self._send(calls.shutdown(there.token if there else ""))
        if there is not None and not launch.wait_gone(there, wait_s):
            raise ServerNotRunning(
                f"The server (pid {there.pid}) is still stopping after {wait_s:g} s.", "Wait longer."
            )

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- pictures

    def generate(self, prompt: str, *, on_event: Callable[[Event], None] | None = None, **fields: Any) -> Result:
        """Text to image. `fields`: those of image.generate; `on_event`: is told of everything that happens.

        Raises JobFailed where it ends without a picture.
        """
        return self.run(calls.body("image.generate", {"prompt": prompt, **fields}), on_event=on_event)

    def transform(self, image: Source, prompt: str, *, on_event: Callable[[Event], None] | None = None,
                  **fields: Any) -> Result:  # fmt: skip
        """Image to image. `image`: a file, its bytes, a Pillow image, or the id of an upload or artifact."""
        body = calls.body("image.transform", {"prompt": prompt, "image": image, **fields})
        return self.run(body, on_event=on_event)

    def inpaint(self, image: Source, mask: Source, prompt: str, *, on_event: Callable[[Event], None] | None = None,
                **fields: Any) -> Result:  # fmt: skip
        """Repaint where `mask` is white."""
        body = calls.body("image.inpaint", {"prompt": prompt, "image": image, "mask": mask, **fields})
        return self.run(body, on_event=on_event)

    def run(self, body: Mapping[str, Any], *, on_event: Callable[[Event], None] | None = None) -> Result:
        """Any operation, to its end; its pictures are fetched."""
        job_id = self.submit(body)
        with closing(self.stream(job_id, previews=on_event is not None)) as events:
            for event in events:
                if on_event is not None:
                    on_event(event)
        job = self.job(job_id)
        if job.state != "succeeded":
            raise JobFailed(job)
        return Result(job, tuple(picture(each, self._send(calls.artifact(each["id"]))) for each in job.artifacts))

    # -- jobs

    def submit(self, body: Mapping[str, Any], *, key: str | None = None) -> str:
        """Hand in a job and return at once: its id. `key`: an idempotency key; a fresh one if None."""
        return self._send(calls.submit(body, key), tries=3)

    def job(self, job_id: str) -> Job:
        """A job's record."""
        return self._send(calls.job(job_id))

    def jobs(self, **filters: Any) -> list[Job]:
        """Jobs, newest first. `filters`: state, operation, tag, group, before, limit."""
        return self._send(calls.jobs(filters))

    def change(self, job_id: str, **changes: Any) -> Job:
        """Change `priority`, `tags`, `group` (None: out of it), `pinned` or `paused`."""
        return self._send(calls.change(job_id, changes))

    def cancel(self, job_id: str) -> Job:
        """Cancel a job."""
        return self._send(calls.cancel(job_id))

    def retry(self, job_id: str) -> str:
        """A new job of the same resolved request: its id."""
        return self._send(calls.retry(job_id))

    def stream(self, job_id: str, *, after: int = 0, previews: bool = False) -> Generator[Event, None, None]:
        """A job's events from number `after` on to its last; a broken connection is taken up where it broke."""
        reader = Reader(after)
        while True:
            try:
                with closing(self._connection(job_id, reader, previews)) as events:
                    for event in events:
                        yield event
                        if event.kind in OVER:
                            return
            except httpx.TransportError as error:
                if time.monotonic() - reader.heard_at > RECONNECT_S:
                    raise ServerNotRunning(f"{self.url} does not answer: {error}.", "Is it running?") from None
            time.sleep(0.2)

    def _connection(self, job_id: str, reader: Reader, previews: bool) -> Generator[Event, None, None]:
        params = {"after": reader.last, "previews": previews}
        path = f"/v1/jobs/{quote(job_id, safe='')}/stream"
        with self._http.stream("GET", path, params=params) as response:
            if not response.is_success:
                response.read()
                raise error_of(response)
            reader.heard()
            for line in response.iter_lines():
                event = reader.line(line)
                if event is not None:
                    yield event

    # -- what is there

    def upload(self, source: Source) -> str:
        """Keep a picture on the server; its id stands for it in requests."""
        return self._send(calls.upload(source))

    def artifact(self, artifact_id: str) -> bytes:
        """A finished file's bytes."""
        return self._send(calls.artifact(artifact_id))

    def artifacts(self, **search: Any) -> list[dict[str, Any]]:
        """Finished files, newest first. `search`: prompt, model, seed, tag, group, since, until, favourite, bin,
        before, limit."""
        return self._send(calls.artifacts(search))

    def favourite(self, artifact_id: str, on: bool = True) -> dict[str, Any]:
        """Make an artifact a favourite, which keeps its job; or (`on` False) an ordinary one again."""
        return self._send(calls.favourite(artifact_id, on))

    def bin(self, artifact_id: str) -> dict[str, Any]:
        """Put an artifact in the bin: it goes for good after the server's `storage.bin_days`."""
        return self._send(calls.bin_artifact(artifact_id))

    def restore(self, artifact_id: str) -> dict[str, Any]:
        """Take an artifact out of the bin."""
        return self._send(calls.restore(artifact_id))

    def models(self) -> list[dict[str, Any]]:
        """Checkpoints that can be asked for."""
        return self._send(calls.table("models"))

    def loras(self) -> list[dict[str, Any]]:
        """LoRAs that can be asked for."""
        return self._send(calls.table("loras"))

    def samplers(self) -> list[dict[str, Any]]:
        """Samplers with their parameters."""
        return self._send(calls.table("samplers"))

    def schedules(self) -> list[dict[str, Any]]:
        """Schedules with their parameters."""
        return self._send(calls.table("schedules"))

    def guidances(self) -> list[dict[str, Any]]:
        """Guidances with their parameters."""
        return self._send(calls.table("guidances"))

    def operations(self) -> list[dict[str, Any]]:
        """Operations with the JSON Schema of their fields."""
        return self._send(calls.table("operations"))

    def system(self) -> dict[str, Any]:
        """Versions, workers, jobs by state."""
        return self._send(calls.system())

    def _send(self, call: Call[T], tries: int = 1) -> T:
        """Send a request. `tries`: more than one only where sending it twice does no harm."""
        headers, content = calls.encoded(call)
        for left in reversed(range(tries)):
            try:
                response = self._http.request(call.method, call.path, params=call.params, headers=headers,
                                              content=content)  # fmt: skip
                return call.read(check(response))
            except httpx.TransportError as error:
                if not left:
                    raise ServerNotRunning(f"{self.url} does not answer: {error}.", "Is it running?") from None
                time.sleep(0.3)
            except (KeyError, TypeError, ValueError) as error:
                raise UnreadableFile(f"{self.url}{call.path} answers what was not expected: {error!r}.",
                                     "Is that a Safelight server of this version?") from None  # fmt: skip
        raise AssertionError("tries is at least 1")

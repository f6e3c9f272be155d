"""Drawing a case on a server, and keeping what came of it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from safelight.artifacts import read_metadata
from safelight.cli import connection
from safelight.cli.baselines.scenarios import Case
from safelight.client import Client
from safelight.client.calls import body
from safelight.workflows.remake import Origin, origin


@dataclass(frozen=True)
class Drawn:
    """A picture with what made it. `data`: the PNG, metadata inside. `seconds`: of its job's work, `peak_bytes`: of
    its worker beyond what it began with."""

    data: bytes
    origin: Origin
    seconds: float
    peak_bytes: int

    def image(self) -> Image.Image:
        """The picture for Pillow."""
        opened = Image.open(io.BytesIO(self.data))
        opened.load()
        return opened


@contextmanager
def studio(settings: Mapping[str, Any]) -> Iterator[Client]:
    """A client of a server that is there for baselines alone, with these settings; of SAFELIGHT_URL's where set."""
    with (
        TemporaryDirectory(prefix="safelight-baselines-") as folder,
        connection.apart(settings, Path(folder)) as client,
    ):
        yield client


def draw(client: Client, case: Case) -> Drawn:
    """The case's picture, drawn now. JobFailed, or what the server refuses the request with."""
    result = client.run({"output": {"format": "png"}, **_body(case)})
    picture = result.artifacts[0]
    timings = result.job.fields["timings"]
    seconds = sum(spent for name, spent in timings.items() if name not in ("queue", "total"))
    found = origin(read_metadata(picture.data), case.name)
    return Drawn(picture.data, found, round(seconds, 3), int(result.job.fields["peak_bytes"]))


def keep(drawn: Drawn, case: Case, folder: Path) -> None:
    """Write the picture, and what was measured beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    case.file(folder).write_bytes(drawn.data)
    facts = {"seconds": drawn.seconds, "peak_bytes": drawn.peak_bytes}
    case.facts(folder).write_text(json.dumps(facts) + "\n", encoding="utf-8")


def kept(case: Case, folder: Path) -> Drawn:
    """The baseline of the case; OSError, ValueError, UnreadableFile or InvalidRequest where it is not whole."""
    data = case.file(folder).read_bytes()
    facts = json.loads(case.facts(folder).read_text(encoding="utf-8"))
    return Drawn(data, origin(read_metadata(data), case.file(folder).name), facts["seconds"], facts["peak_bytes"])


def _body(case: Case) -> dict[str, Any]:
    fields = case.request()
    return body(fields.pop("operation"), fields)

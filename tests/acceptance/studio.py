"""A loop without a server: submit bodies, take turns, look at the pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from safelight.artifacts import Files
from safelight.catalog.index import FolderCatalog
from safelight.core.files import UploadRef
from safelight.core.names import attribute
from safelight.core.operations import Contract
from safelight.core.tables import Tables, build_tables
from safelight.engine.device import choose_device
from safelight.engine.loop import Loop, LoopOptions
from safelight.engine.openjob import Order
from safelight.workflows.context import Context

Key = tuple[str, int]


@dataclass
class Told:
    """What a loop reported, by attempt."""

    events: dict[Key, list[tuple[str, Mapping[str, Any]]]] = field(default_factory=dict)
    files: dict[Key, list[Mapping[str, Any]]] = field(default_factory=dict)
    results: dict[Key, Mapping[str, Any]] = field(default_factory=dict)
    ends: dict[Key, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    checkpoints: dict[Key, list[str]] = field(default_factory=dict)
    plans: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    passes: list[tuple[str, int]] = field(default_factory=list)

    def event(self, job: str, attempt: int, kind: str, data: Mapping[str, Any]) -> None:
        self.events.setdefault((job, attempt), []).append((kind, data))

    def planned(self, job: str, attempt: int, plan: Mapping[str, Any]) -> None:
        self.plans.setdefault(job, plan)

    def saved(self, job: str, attempt: int, facts: Mapping[str, Any]) -> None:
        self.files.setdefault((job, attempt), []).append(facts)

    def checkpointed(self, job: str, attempt: int, folder: str, step: int) -> None:
        self.checkpoints.setdefault((job, attempt), []).append(folder)

    def succeeded(
        self, job: str, attempt: int, result: Mapping[str, Any], timings: Mapping[str, float], peak_bytes: int
    ) -> None:
        self.results[job, attempt] = {**result, "timings": timings}

    def ended(self, job: str, attempt: int, end: str, error: Mapping[str, str]) -> None:
        self.ends[job, attempt] = (end, error)

    def declined(self, job: str, attempt: int, reason: str) -> None:
        self.ends[job, attempt] = ("declined", {"message": reason})

    def profile(self, network: str, shape: str, dtype: str, width: int, seconds: float) -> None:
        self.passes.append((shape, width))


class Studio:
    """Runs operations on a loop of its own, in fp32 unless said otherwise."""

    def __init__(self, folder: Path, *, models: Path | None = None, dtype: str = "fp32", **options: Any) -> None:
        self.folder = folder
        self.told = Told()
        self.tables: Tables = build_tables(options.pop("extensions", ()))
        self.contract = Contract(self.tables.operations)
        self.catalog = FolderCatalog([models] if models else [])
        chosen = LoopOptions(artifacts=folder / "artifacts", **{"checkpoint_interval_s": 3600.0, **options})
        self.loop = Loop(choose_device("cpu", dtype), self.tables, chosen, self.told)
        self.pictures: dict[str, UploadRef] = {}

    def upload(self, name: str, picture: Image.Image) -> None:
        """Keep a picture for the field of that name."""
        path = self.folder / f"{name}-{len(self.pictures)}.png"
        picture.save(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.pictures[name] = UploadRef(
            id=sha256, path=str(path), sha256=sha256, media_type="image/png", width=picture.width, height=picture.height
        )

    def resolve(self, operation: str = "image.generate", **body: Any) -> Any:
        """The complete request."""
        spec = self.contract.spec(operation)
        for name in self.pictures:
            if name in spec.request.model_fields:
                body.setdefault(name, "kept")
        request = self.contract.parse(
            {"operation": operation, "prompt": "a red house on green hills", "seed": 1, **body}
        )
        return attribute(spec.resolve)(request, Context(self.catalog, self.tables, self.pictures))

    def submit(self, job: str, resolved: Any, *, attempt: int = 1, checkpoint: str | None = None, **order: Any) -> None:
        """Open an attempt."""
        recipe = attribute(self.contract.spec(resolved.operation).recipe)(resolved)
        request = hashlib.sha256(json.dumps(resolved.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
        self.loop.open(
            Order(
                job=job,
                attempt=attempt,
                recipe=recipe,
                request=request,
                folder=self.folder / "checkpoints" / job,
                deterministic=resolved.deterministic,
                checkpoint=Path(checkpoint) if checkpoint else None,
                **order,
            )
        )

    def finish(self) -> None:
        """Take turns until nothing is open."""
        while self.loop.pulse().open:
            self.loop.turn()

    def steps(self, job: str, attempt: int = 1) -> int:
        """Steps told of so far."""
        return sum(kind == "step" for kind, _ in self.told.events.get((job, attempt), []))

    def path(self, job: str, index: int = 0, attempt: int = 1) -> Path:
        """A finished file."""
        assert (job, attempt) not in self.told.ends, self.told.ends[job, attempt]
        facts = next(facts for facts in self.told.files[job, attempt] if facts["index"] == index)
        return Files(self.folder / "artifacts").path(facts["sha256"])

    def pixels(self, job: str, index: int = 0, attempt: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
        """A finished picture, float [H, W, 3] in 0..255."""
        with Image.open(self.path(job, index, attempt)) as opened:
            return np.asarray(opened.convert("RGB"), dtype=np.float32)

    def draw(self, job: str, operation: str = "image.generate", **body: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        """One job, alone, to its end."""
        self.submit(job, self.resolve(operation, **body))
        self.finish()
        return self.pixels(job)

"""What the store tests share: a clock that stands still, and jobs, artifacts and checkpoints to put down."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from safelight.core.names import new_id
from safelight.jobs.records import Artifact, Checkpoint, Job, NewJob
from safelight.jobs.store import Store


@dataclass
class Clock:
    """Seconds that pass only when a test says so."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


def new_job(prompt: str = "a harbour", **fields: Any) -> NewJob:
    request = {"operation": "image.generate", "prompt": prompt}
    given = {
        "id": new_id(),
        "owner": "ada",
        "operation": "image.generate",
        "request": request,
        "resolved": {**request, "seed": 2**64 - 1},
        "fingerprint": hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest(),
        "model_key": "demo",
    }
    return NewJob(**{**given, **fields})


def artifact(job: Job, index: int = 0, content: str = "", **fields: Any) -> Artifact:
    sha256 = hashlib.sha256((content or f"{job.id} {index}").encode()).hexdigest()
    given = {"id": new_id(), "job_id": job.id, "index": index, "owner": job.owner, "sha256": sha256}
    picture = {"media_type": "image/png", "bytes": 1000, "width": 64, "height": 48, "seed": 2**64 - 1}
    return Artifact(**{**given, **picture, **fields})


def checkpoint(job: Job, step: int = 5) -> Checkpoint:
    return Checkpoint(job.id, job.attempt, f"checkpoints/{job.id}/{step}", step, 1000.0)


async def submitted(store: Store, **fields: Any) -> Job:
    job, _ = await store.submit(new_job(**fields))
    return job


async def started(store: Store, *, by: str = "w0", lease_s: float = 10.0, **fields: Any) -> Job:
    job = await submitted(store, **fields)
    claimed = await store.claim(job.id, by, lease_s)
    assert claimed is not None
    return claimed


async def again(store: Store, job_id: str, worker: str = "w0") -> int:
    """Claims the job once more; the new attempt's number."""
    claimed = await store.claim(job_id, worker, 10.0)
    assert claimed is not None
    return claimed.attempt

"""The store of tests and of an embedded server that keeps nothing: the same ledger over dicts. Durable it is not."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar

from safelight.core.events import Event
from safelight.core.states import JobState
from safelight.jobs.ledger import Clock, Ledger
from safelight.jobs.records import Artifact, ArtifactFilter, Delivery, DeliveryState, Filter, Finished, Job, Upload
from safelight.jobs.rows import Now, Rows, Standing
from safelight.jobs.search import folded, searched_model, searched_words, wanted_words
from safelight.jobs.store import NewEvent

T = TypeVar("T")


@dataclass
class Lease:
    """Who holds a job, up to when (tick)."""

    attempt: int
    worker: str
    until: float


@dataclass
class MemoryRows:
    """`Rows` over dicts that keep the order of arrival. `fresh`: events put down since they were last taken."""

    now: Now
    kept: dict[str, Job] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    arrivals: int = 0
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    files: dict[str, frozenset[str]] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)
    log: list[Event] = field(default_factory=list)
    sequence: int = 0
    pictures: dict[str, Artifact] = field(default_factory=dict)
    outbox: dict[int, Delivery] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    binned: dict[str, float] = field(default_factory=dict)
    given_at: dict[tuple[str, str], float] = field(default_factory=dict)
    given: dict[tuple[str, str], Upload] = field(default_factory=dict)
    jotted: dict[str, dict[str, Any]] = field(default_factory=dict)
    fresh: list[Event] = field(default_factory=list)

    def job(self, job_id: str) -> Job | None:
        """See Rows."""
        job = self.kept.get(job_id)
        if job is None:
            return None
        mine = (each for each in self.pictures.values() if each.job_id == job_id)
        due = tuple(each for each in self.outbox.values() if each.event.job_id == job_id)
        return replace(job, artifacts=tuple(sorted(mine, key=lambda each: each.index)), deliveries=due)

    def keyed(self, owner: str, key: str) -> Job | None:
        """See Rows."""
        return self.job(self.keys.get((owner, key), ""))

    def standing(self, job_id: str) -> Standing | None:
        """See Rows."""
        job = self.kept.get(job_id)
        return Standing(job.owner, job.state, job.attempt, job.webhook) if job is not None else None

    def insert(self, job: Job, key: str | None, files: Sequence[str]) -> None:
        """See Rows."""
        self.kept[job.id] = job
        self.arrivals += 1
        self.accepted[job.id] = self.arrivals
        self.files[job.id] = frozenset(files)
        if key is not None:
            self.keys[job.owner, key] = job.id

    def save(self, before: Job, after: Job) -> None:
        """See Rows."""
        self.kept[before.id] = after
        if after.ended_at is not None:
            self.ended.setdefault(after.id, self.now.steady)

    def queued_from(self, priority: int) -> int:
        """See Rows."""
        return sum(job.priority >= priority for job in self._in(JobState.QUEUED))

    def counts(self) -> dict[JobState, int]:
        """See Rows."""
        there = Counter(job.state for job in self.kept.values())
        return {state: there[state] for state in JobState}

    def jobs(self, wanted: Filter) -> list[Job]:
        """See Rows."""
        newest_first = list(reversed(self.kept.values()))
        if wanted.before is not None:
            ids = [job.id for job in newest_first]
            newest_first = newest_first[ids.index(wanted.before) + 1 :]
        found = [
            _bare(job)
            for job in newest_first
            if wanted.owner in (None, job.owner)
            and (not wanted.states or job.state in wanted.states)
            and wanted.operation in (None, job.operation)
            and (wanted.tag is None or wanted.tag in job.tags)
            and wanted.group in (None, job.group)
        ]
        return found[: wanted.limit]

    def newest(self) -> int:
        """See Rows."""
        return self.arrivals

    def waiting(self, now: float, limit: int, after: int) -> list[Job]:
        """See Rows."""
        taken: Counter[tuple[int, str]] = Counter()
        ranked = []
        for age, job in enumerate(self.kept.values()):
            may_start = job.not_before is None or job.not_before <= now
            if job.state is JobState.QUEUED and may_start and self.accepted[job.id] > after:
                taken[job.priority, job.owner] += 1
                turn = taken[job.priority, job.owner]
                ranked.append(((-job.priority, turn, self.turns.get(job.owner, 0), age), job))
        return [_bare(job) for _, job in sorted(ranked, key=lambda each: each[0])[:limit]]

    def running(self) -> list[Job]:
        """See Rows."""
        return list(self._in(JobState.RUNNING))

    def served(self, owner: str) -> None:
        """See Rows."""
        self.turns[owner] = max(self.turns.values(), default=0) + 1

    def pass_over(self, job_ids: Sequence[str]) -> None:
        """See Rows."""
        for job_id in job_ids:
            job = self.kept.get(job_id)
            if job is not None and job.state is JobState.QUEUED:
                self.kept[job_id] = replace(job, passed_over=job.passed_over + 1)

    def grant(self, job_id: str, attempt: int, worker: str, until: float) -> None:
        """See Rows."""
        self.leases[job_id] = Lease(attempt, worker, until)

    def renew(self, job_id: str, attempt: int, worker: str, until: float) -> bool:
        """See Rows."""
        lease = self.leases.get(job_id)
        if lease is None or (lease.attempt, lease.worker) != (attempt, worker):
            return False
        lease.until = until
        return True

    def end_lease(self, job_id: str) -> None:
        """See Rows."""
        self.leases.pop(job_id, None)

    def expired(self) -> list[Job]:
        """See Rows."""
        lasting = {job_id for job_id, lease in self.leases.items() if lease.until > self.now.tick}
        return [job for job in self._in(JobState.RUNNING) if job.id not in lasting]

    def add_events(self, job_id: str, owner: str, events: Sequence[NewEvent]) -> list[Event]:
        """See Rows."""
        number = sum(event.job_id == job_id for event in self.log)
        added = [
            Event(job_id, kind, data, number + nth, self.sequence + nth, self.now.wall)
            for nth, (kind, data) in enumerate(events, 1)
        ]
        self.sequence += len(added)
        self.log += added
        self.fresh += added
        return added

    def events(self, job_id: str, after: int) -> list[Event]:
        """See Rows."""
        return [event for event in self.log if event.job_id == job_id and event.number > after]

    def events_of(self, owner: str | None, after: int, limit: int) -> list[Event]:
        """See Rows."""
        mine = (event for event in self.log if owner in (None, self.kept[event.job_id].owner))
        return [event for event in mine if event.sequence > after][:limit]

    def add_artifact(self, artifact: Artifact) -> None:
        """See Rows."""
        self.pictures[artifact.id] = artifact

    def artifact_at(self, job_id: str, index: int) -> Artifact | None:
        """See Rows."""
        found = (each for each in self.pictures.values() if (each.job_id, each.index) == (job_id, index))
        return next(found, None)

    def artifact(self, artifact_id: str) -> Artifact | None:
        """See Rows."""
        return self.pictures.get(artifact_id)

    def artifacts(self, wanted: ArtifactFilter) -> list[Artifact]:
        """See Rows."""
        ids = list(reversed(self.pictures))
        if wanted.before is not None:
            ids = ids[ids.index(wanted.before) + 1 :]
        found = (self.pictures[each] for each in ids)
        return [each for each in found if _matches(each, self.kept[each.job_id], wanted)][: wanted.limit]

    def save_artifact(self, artifact: Artifact) -> None:
        """See Rows."""
        self.pictures[artifact.id] = artifact
        if artifact.binned_at is None:
            self.binned.pop(artifact.id, None)
        else:
            self.binned.setdefault(artifact.id, self.now.steady)

    def put_upload(self, upload: Upload) -> None:
        """See Rows."""
        self.given[upload.owner, upload.id] = upload
        self.given_at[upload.owner, upload.id] = self.now.steady

    def upload(self, upload_id: str, owner: str | None) -> Upload | None:
        """See Rows."""
        found = (each for each in self.given.values() if each.id == upload_id and owner in (None, each.owner))
        return next(found, None)

    def put_note(self, key: str, value: dict[str, Any]) -> None:
        """See Rows."""
        self.jotted[key] = value

    def notes(self, prefix: str) -> dict[str, dict[str, Any]]:
        """See Rows."""
        return {key: value for key, value in sorted(self.jotted.items()) if key.startswith(prefix)}

    def add_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        """See Rows."""
        self.outbox |= {each.event.sequence: each for each in deliveries}

    def delivery(self, sequence: int) -> Delivery | None:
        """See Rows."""
        return self.outbox.get(sequence)

    def undelivered(self, after: int, limit: int) -> list[Delivery]:
        """See Rows."""
        pending = (each for each in self.outbox.values() if each.state is DeliveryState.PENDING)
        return list(islice((each for each in pending if each.event.sequence > after), limit))

    def save_delivery(self, delivery: Delivery) -> None:
        """See Rows."""
        self.outbox[delivery.event.sequence] = delivery

    def finished(self) -> list[Finished]:
        """See Rows."""
        rows = [
            Finished(job.id, self.ended[job_id], sum(each.bytes for each in job.artifacts), _stays(job))
            for job_id in self.kept
            if (job := self.job(job_id)) is not None and job_id in self.ended
        ]
        return sorted(rows, key=lambda row: row.ended)

    def forget(self, job_id: str) -> bool:
        """See Rows."""
        job = self.job(job_id)
        if job is None or _stays(job) or not job.state.over:
            return False
        del self.kept[job_id], self.accepted[job_id], self.files[job_id], self.ended[job_id]
        self.keys = {key: each for key, each in self.keys.items() if each != job_id}
        self.log = [event for event in self.log if event.job_id != job_id]
        self.pictures = {key: each for key, each in self.pictures.items() if each.job_id != job_id}
        self.binned = {key: since for key, since in self.binned.items() if key in self.pictures}
        self.outbox = {key: each for key, each in self.outbox.items() if each.event.job_id != job_id}
        return True

    def forget_uploads(self, before: float) -> int:
        """See Rows."""
        read = frozenset[str]().union(*self.files.values())
        old = [key for key, each in self.given.items() if self.given_at[key] < before and each.id not in read]
        for key in old:
            del self.given[key], self.given_at[key]
        return len(old)

    def empty_bin(self, before: float) -> int:
        """See Rows."""
        going = [
            each.id
            for each in self.pictures.values()
            if self.binned.get(each.id, before) < before
            and (job := self.kept[each.job_id]).state.over and not job.pinned
        ]  # fmt: skip
        for artifact_id in going:
            del self.pictures[artifact_id], self.binned[artifact_id]
        return len(going)

    def is_named(self, sha256: str) -> bool:
        """See Rows."""
        return (
            any(each.sha256 == sha256 for each in self.pictures.values())
            or any(each.id == sha256 for each in self.given.values())
            or any(sha256 in files for files in self.files.values())
        )

    def _in(self, state: JobState) -> Iterator[Job]:
        ids = [job.id for job in self.kept.values() if job.state is state]
        return (job for job_id in ids if (job := self.job(job_id)) is not None)


def _bare(job: Job) -> Job:
    return replace(job, attempts=(), artifacts=(), checkpoint=None, deliveries=())


def _stays(job: Job) -> bool:
    return job.pinned or any(each.favourite and each.binned_at is None for each in job.artifacts)


def _matches(artifact: Artifact, job: Job, wanted: ArtifactFilter) -> bool:
    words = searched_words(job.resolved)
    return (
        wanted.owner in (None, artifact.owner)
        and all(word in words for word in wanted_words(wanted.text or ""))
        and (wanted.model is None or folded(wanted.model) == searched_model(job.resolved))
        and wanted.seed in (None, artifact.seed)
        and (wanted.tag is None or wanted.tag in job.tags)
        and wanted.group in (None, job.group)
        and (wanted.since is None or artifact.created_at >= wanted.since)
        and (wanted.until is None or artifact.created_at < wanted.until)
        and wanted.favourite in (None, artifact.favourite)
        and wanted.binned == (artifact.binned_at is not None)
    )


class MemoryStore(Ledger):
    """A `Store` that lasts as long as the object; closing and opening it again is a server's restart."""

    def __init__(self, *, wall: Clock = time.time, tick: Clock = time.monotonic) -> None:
        super().__init__(wall, tick)
        self._rows = MemoryRows(self.now())

    async def open(self) -> None:
        """See Store."""
        self._rows.leases.clear()
        await self.resume_time()

    async def close(self) -> None:
        """See Store."""

    async def write(self, act: Callable[[Rows], T]) -> T:
        """See Ledger. Every act checks before it puts anything down, so nothing needs undoing."""
        await asyncio.sleep(0)
        self._rows.now = self.now()
        result = act(self._rows)
        fresh, self._rows.fresh = self._rows.fresh, []
        self.tell(fresh)
        return result

    async def read(self, look: Callable[[Rows], T]) -> T:
        """See Ledger."""
        await asyncio.sleep(0)
        self._rows.now = self.now()
        return look(self._rows)

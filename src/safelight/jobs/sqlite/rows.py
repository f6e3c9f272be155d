"""`Rows` over one SQLite connection, and the way between rows and records."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from safelight.core.events import Event, EventKind
from safelight.core.states import AttemptEnd, JobState
from safelight.jobs.records import (
    Artifact,
    ArtifactFilter,
    Attempt,
    Checkpoint,
    Delivery,
    DeliveryState,
    Filter,
    Finished,
    Job,
    Upload,
    Webhook,
)
from safelight.jobs.rows import Now, Standing
from safelight.jobs.search import folded, wanted_words
from safelight.jobs.sqlite import sql
from safelight.jobs.store import NewEvent

_JSON = frozenset({"request", "resolved", "tags", "result", "failure", "timings", "plan", "webhook"})
_FLAGS = ("alone", "cancel_requested", "pause_requested", "pinned")
_NOT_OF_THE_RECORD = ("sequence", "idempotency_key", "ended_steady")


class SqliteRows:
    """What a transaction on `connection` sees. `fresh`: events put down, until they are taken."""

    def __init__(self, connection: sqlite3.Connection, now: Now) -> None:
        self.now = now
        self.fresh: list[Event] = []
        self._run = connection.execute
        self._run_all = connection.executemany

    # -- jobs

    def job(self, job_id: str) -> Job | None:
        """See Rows."""
        return self._whole(self._run(sql.JOB, (job_id,)).fetchone())

    def keyed(self, owner: str, key: str) -> Job | None:
        """See Rows."""
        return self._whole(self._run(sql.JOB_BY_KEY, (owner, key)).fetchone())

    def standing(self, job_id: str) -> Standing | None:
        """See Rows."""
        row = self._run(sql.STANDING, (job_id,)).fetchone()
        if row is None:
            return None
        return Standing(row["owner"], JobState(row["state"]), row["attempt"], _webhook(row["webhook"]))

    def insert(self, job: Job, key: str | None, files: Sequence[str]) -> None:
        """See Rows."""
        self._run(sql.INSERT_JOB, {**_values(job, sql.FIXED + sql.CHANGING), "idempotency_key": key})
        if files:
            self._run_all(sql.INSERT_JOB_FILE, [(job.id, sha256) for sha256 in files])

    def save(self, before: Job, after: Job) -> None:
        """See Rows."""
        self._run(sql.UPDATE_JOB, _values(after, ("id", *sql.CHANGING)))
        if after.ended_at is not None and before.ended_at is None:
            self._run(sql.SET_ENDED, (self.now.steady, after.id))
        if after.attempts[-1:] != before.attempts[-1:]:
            self._run(sql.PUT_ATTEMPT, {"job_id": after.id, **asdict(after.attempts[-1])})
        if after.checkpoint is None and before.checkpoint is not None:
            self._run(sql.DROP_CHECKPOINT, (after.id,))
        elif after.checkpoint is not None and after.checkpoint != before.checkpoint:
            self._run(sql.PUT_CHECKPOINT, asdict(after.checkpoint))

    def queued_from(self, priority: int) -> int:
        """See Rows."""
        return int(self._run(sql.QUEUED_FROM, (priority,)).fetchone()[0])

    def counts(self) -> dict[JobState, int]:
        """See Rows."""
        there = {JobState(state): count for state, count in self._run(sql.COUNTS)}
        return {state: there.get(state, 0) for state in JobState}

    def jobs(self, wanted: Filter) -> list[Job]:
        """See Rows."""
        asked: dict[str, Any] = {
            "owner": wanted.owner,
            "states": json.dumps(wanted.states) if wanted.states else None,
            "operation": wanted.operation,
            "tag": wanted.tag,
            "group": wanted.group,
            "before": wanted.before,
        }
        query = sql.JOBS.format(_where(sql.JOBS_WHERE, asked))
        return [_job(row) for row in self._run(query, {**asked, "limit": wanted.limit})]

    def newest(self) -> int:
        """See Rows."""
        return int(self._run(sql.NEWEST).fetchone()[0])

    def waiting(self, now: float, limit: int, after: int) -> list[Job]:
        """See Rows."""
        return [_job(row) for row in self._run(sql.WAITING, {"now": now, "limit": limit, "after": after})]

    def running(self) -> list[Job]:
        """See Rows."""
        return self._wholes(self._run(sql.RUNNING))

    def served(self, owner: str) -> None:
        """See Rows."""
        self._run(sql.SERVED, (owner,))

    def pass_over(self, job_ids: Sequence[str]) -> None:
        """See Rows."""
        self._run_all(sql.PASS_OVER, [(job_id,) for job_id in job_ids])

    def _whole(self, row: sqlite3.Row | None) -> Job | None:
        if row is None:
            return None
        key = (row["id"],)
        checkpoint = self._run(sql.CHECKPOINT, key).fetchone()
        return _job(
            row,
            attempts=tuple(_attempt(each) for each in self._run(sql.ATTEMPTS, key)),
            artifacts=tuple(_artifact(each) for each in self._run(sql.ARTIFACTS_OF_JOB, key)),
            checkpoint=Checkpoint(**checkpoint) if checkpoint is not None else None,
            deliveries=self._deliveries(sql.DELIVERIES_OF_JOB, key) if row["webhook"] is not None else (),
        )

    def _wholes(self, rows: sqlite3.Cursor) -> list[Job]:
        return [job for row in rows.fetchall() if (job := self._whole(row)) is not None]

    # -- leases

    def grant(self, job_id: str, attempt: int, worker: str, until: float) -> None:
        """See Rows."""
        self._run(sql.GRANT, (job_id, attempt, worker, until))

    def renew(self, job_id: str, attempt: int, worker: str, until: float) -> bool:
        """See Rows."""
        lease = {"job_id": job_id, "attempt": attempt, "worker": worker, "until": until}
        return self._run(sql.RENEW, lease).rowcount == 1

    def end_lease(self, job_id: str) -> None:
        """See Rows."""
        self._run(sql.END_LEASE, (job_id,))

    def expired(self) -> list[Job]:
        """See Rows."""
        return self._wholes(self._run(sql.EXPIRED, (self.now.tick,)))

    # -- events

    def add_events(self, job_id: str, owner: str, events: Sequence[NewEvent]) -> list[Event]:
        """See Rows."""
        if not events:
            return []
        last = int(self._run(sql.LAST_NUMBER, (job_id,)).fetchone()[0])
        added = []
        for number, (kind, data) in enumerate(events, last + 1):
            values = (job_id, number, owner, kind.value, json.dumps(data), self.now.wall)
            sequence = self._run(sql.INSERT_EVENT, values).lastrowid or 0
            added.append(Event(job_id, kind, data, number, sequence, self.now.wall))
        self.fresh += added
        return added

    def events(self, job_id: str, after: int) -> list[Event]:
        """See Rows."""
        return [_event(row) for row in self._run(sql.EVENTS, (job_id, after))]

    def events_of(self, owner: str | None, after: int, limit: int) -> list[Event]:
        """See Rows."""
        if owner is None:
            return [_event(row) for row in self._run(sql.EVENTS_OF_ALL, (after, limit))]
        return [_event(row) for row in self._run(sql.EVENTS_OF_OWNER, (owner, after, limit))]

    # -- artifacts, uploads, notes

    def add_artifact(self, artifact: Artifact) -> None:
        """See Rows."""
        self._run(sql.INSERT_ARTIFACT, {**asdict(artifact), "seed": str(artifact.seed)})
        self._run(sql.MAKE_SEARCHED, (artifact.job_id,))

    def artifact_at(self, job_id: str, index: int) -> Artifact | None:
        """See Rows."""
        row = self._run(sql.ARTIFACT_AT, (job_id, index)).fetchone()
        return _artifact(row) if row is not None else None

    def artifact(self, artifact_id: str) -> Artifact | None:
        """See Rows."""
        row = self._run(sql.ARTIFACT, (artifact_id,)).fetchone()
        return _artifact(row) if row is not None else None

    def artifacts(self, wanted: ArtifactFilter) -> list[Artifact]:
        """See Rows."""
        asked = asdict(wanted) | {
            "words": json.dumps(words) if (words := wanted_words(wanted.text or "")) else None,
            "model": folded(wanted.model) if wanted.model is not None else None,
            "seed": str(wanted.seed) if wanted.seed is not None else None,
        }
        query = sql.ARTIFACTS.format(_where(sql.ARTIFACTS_WHERE, asked))
        return [_artifact(row) for row in self._run(query, asked)]

    def save_artifact(self, artifact: Artifact) -> None:
        """See Rows."""
        values = {"id": artifact.id, "favourite": artifact.favourite, "binned_at": artifact.binned_at}
        self._run(sql.SAVE_ARTIFACT, {**values, "steady": self.now.steady})

    def put_upload(self, upload: Upload) -> None:
        """See Rows."""
        self._run(sql.PUT_UPLOAD, {**asdict(upload), "steady": self.now.steady})

    def upload(self, upload_id: str, owner: str | None) -> Upload | None:
        """See Rows."""
        row = self._run(sql.UPLOAD, {"id": upload_id, "owner": owner}).fetchone()
        if row is None:
            return None
        values = dict(row)
        del values["given_steady"]
        return Upload(**values)

    def put_note(self, key: str, value: dict[str, Any]) -> None:
        """See Rows."""
        self._run(sql.PUT_NOTE, (key, json.dumps(value)))

    def notes(self, prefix: str) -> dict[str, dict[str, Any]]:
        """See Rows."""
        return {key: json.loads(value) for key, value in self._run(sql.NOTES, {"prefix": prefix})}

    # -- deliveries

    def add_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        """See Rows."""
        for each in deliveries:
            at = (each.event.sequence, each.event.job_id)
            self._run(sql.ADD_DELIVERY, (*at, each.state.value, each.tries, each.said, each.tried_at))

    def delivery(self, sequence: int) -> Delivery | None:
        """See Rows."""
        return next(iter(self._deliveries(sql.DELIVERY, (sequence,))), None)

    def undelivered(self, after: int, limit: int) -> list[Delivery]:
        """See Rows."""
        return list(self._deliveries(sql.UNDELIVERED, (after, limit)))

    def save_delivery(self, delivery: Delivery) -> None:
        """See Rows."""
        values = (delivery.state.value, delivery.tries, delivery.said, delivery.tried_at, delivery.event.sequence)
        self._run(sql.SAVE_DELIVERY, values)

    def _deliveries(self, query: str, values: tuple[Any, ...]) -> tuple[Delivery, ...]:
        return tuple(
            Delivery(_event(row), row["url"], DeliveryState(row["state"]), row["tries"], row["said"], row["tried_at"])
            for row in self._run(query, values)
        )

    # -- retention

    def finished(self) -> list[Finished]:
        """See Rows."""
        rows = self._run(sql.FINISHED)
        return [Finished(row["id"], row["ended"], row["bytes"], bool(row["pinned"])) for row in rows]

    def forget(self, job_id: str) -> bool:
        """See Rows."""
        return self._run(sql.FORGET, (job_id,)).rowcount == 1

    def forget_uploads(self, before: float) -> int:
        """See Rows."""
        return self._run(sql.FORGET_UPLOADS, (before,)).rowcount

    def empty_bin(self, before: float) -> int:
        """See Rows."""
        return self._run(sql.EMPTY_BIN, (before,)).rowcount

    def is_named(self, sha256: str) -> bool:
        """See Rows."""
        return bool(self._run(sql.IS_NAMED, {"sha256": sha256}).fetchone()[0])


def _where(conditions: Mapping[str, str], asked: Mapping[str, object]) -> str:
    return " AND ".join(text for name, text in conditions.items() if asked[name] is not None) or "true"


def _values(job: Job, columns: Sequence[str]) -> dict[str, Any]:
    """The columns' values: JSON as text, and None where there is nothing (a job without a result)."""
    values = {name: getattr(job, name) for name in columns}
    for name in _JSON & values.keys():
        if values[name] is not None:
            values[name] = json.dumps(values[name], default=asdict)
    return values


def _job(row: sqlite3.Row, **more: Any) -> Job:
    values = {name: row[name] for name in row.keys() if name not in _NOT_OF_THE_RECORD}  # noqa: SIM118 a Row iterates values
    values["webhook"] = _webhook(values["webhook"])
    for name in _JSON - {"webhook"}:
        if values[name] is not None:
            values[name] = json.loads(values[name])
    for name in _FLAGS:
        values[name] = bool(values[name])
    values |= {"state": JobState(values["state"]), "tags": tuple(values["tags"])}
    return Job(**values, **more)


def _webhook(text: str | None) -> Webhook | None:
    if text is None:
        return None
    values = json.loads(text)
    return Webhook(values["url"], tuple(values["events"]))


def _attempt(row: sqlite3.Row) -> Attempt:
    values = dict(row)
    del values["job_id"]
    values["end"] = AttemptEnd(values["end"]) if values["end"] is not None else None
    return Attempt(**values)


def _artifact(row: sqlite3.Row) -> Artifact:
    values = dict(row)
    del values["sequence"], values["binned_steady"]
    values |= {"seed": int(values["seed"]), "favourite": bool(values["favourite"])}
    return Artifact(**values)


def _event(row: sqlite3.Row) -> Event:
    data = json.loads(row["data"])
    return Event(row["job_id"], EventKind(row["kind"]), data, row["number"], row["sequence"], row["at"])

"""The statements of the SQLite store, by name. Their tables: migrations/."""

from __future__ import annotations

FIXED = (
    "id", "owner", "operation", "request", "resolved", "created_at", "model_key", "worker", "not_before", "deadline",
    "retry_of", "bytes_needed", "weights_bytes", "fingerprint", "webhook",
)  # fmt: skip
"""Columns of a job that never change."""

CHANGING = (
    "state", "priority", "tags", "started_at", "ended_at", "attempt", "charged_errors", "charged_crashes", "alone",
    "passed_over", "cancel_requested", "pause_requested", "result", "failure", "timings", "peak_bytes", "position",
    "pinned", "plan", "group",
)  # fmt: skip
"""Columns of a job that its life changes."""

INSERT_JOB = (
    f"INSERT INTO jobs ({', '.join(map('[{}]'.format, FIXED + CHANGING))}, idempotency_key) "
    f"VALUES ({', '.join(f':{name}' for name in FIXED + CHANGING)}, :idempotency_key)"
)
UPDATE_JOB = f"UPDATE jobs SET {', '.join(f'[{name}] = :{name}' for name in CHANGING)} WHERE id = :id"
SET_ENDED = "UPDATE jobs SET ended_steady = ? WHERE id = ?"
INSERT_JOB_FILE = "INSERT OR IGNORE INTO job_files VALUES (?, ?)"

JOB = "SELECT * FROM jobs WHERE id = ?"
JOB_BY_KEY = "SELECT * FROM jobs WHERE owner = ? AND idempotency_key = ?"
STANDING = "SELECT owner, state, attempt, webhook FROM jobs WHERE id = ?"
ATTEMPTS = "SELECT * FROM attempts WHERE job_id = ? ORDER BY number"
PUT_ATTEMPT = """
INSERT OR REPLACE INTO attempts VALUES
(:job_id, :number, :worker, :started_at, :ended_at, :end, :kind, :message, :trace)"""
CHECKPOINT = "SELECT * FROM checkpoints WHERE job_id = ?"
PUT_CHECKPOINT = "INSERT OR REPLACE INTO checkpoints VALUES (:job_id, :attempt, :folder, :step, :at)"
DROP_CHECKPOINT = "DELETE FROM checkpoints WHERE job_id = ?"

QUEUED_FROM = "SELECT coalesce(sum(jobs), 0) FROM tally WHERE state = 'queued' AND priority >= ?"
COUNTS = "SELECT state, sum(jobs) FROM tally GROUP BY state"
RUNNING = "SELECT * FROM jobs WHERE state = 'running' ORDER BY sequence"
EXPIRED = """
SELECT jobs.* FROM jobs LEFT JOIN leases ON leases.job_id = jobs.id
WHERE state = 'running' AND (until IS NULL OR until <= ?) ORDER BY sequence"""

JOBS = "SELECT * FROM jobs WHERE {} ORDER BY sequence DESC LIMIT :limit"
JOBS_WHERE = {
    "owner": "owner = :owner",
    "states": "state IN (SELECT value FROM json_each(:states))",
    "operation": "operation = :operation",
    "tag": "EXISTS (SELECT 1 FROM json_each(tags) WHERE value = :tag)",
    "group": "[group] = :group",
    "before": "sequence < (SELECT sequence FROM jobs WHERE id = :before)",
}
"""Only what is asked for is joined, by AND, so that the indexes serve."""

NEWEST = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'jobs'), 0)"
WAITING = """
WITH line AS (
    SELECT sequence, priority, owner, row_number() OVER (PARTITION BY priority, owner ORDER BY sequence) AS turn
    FROM jobs WHERE state = 'queued' AND sequence > :after AND (not_before IS NULL OR not_before <= :now)
), head AS (
    SELECT sequence, turn, coalesce(served, 0) AS served FROM line LEFT JOIN owners USING (owner)
    ORDER BY priority DESC, turn, served, sequence LIMIT :limit
)
SELECT jobs.* FROM head JOIN jobs USING (sequence) ORDER BY priority DESC, turn, served, sequence"""
"""Each owner's first job, then each one's second, …; only the head of the line touches the (long) rows of jobs."""

SERVED = """
INSERT INTO owners SELECT ?, coalesce(max(served), 0) + 1 FROM owners WHERE true
ON CONFLICT DO UPDATE SET served = excluded.served"""
PASS_OVER = "UPDATE jobs SET passed_over = passed_over + 1 WHERE id = ? AND state = 'queued'"

GRANT = "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)"
RENEW = "UPDATE leases SET until = :until WHERE job_id = :job_id AND attempt = :attempt AND worker = :worker"
END_LEASE = "DELETE FROM leases WHERE job_id = ?"
VOID_LEASES = "DELETE FROM leases"

LAST_NUMBER = "SELECT coalesce(max(number), 0) FROM events WHERE job_id = ?"
INSERT_EVENT = "INSERT INTO events (job_id, number, owner, kind, data, at) VALUES (?, ?, ?, ?, ?, ?)"
EVENTS = "SELECT * FROM events WHERE job_id = ? AND number > ? ORDER BY number"
EVENTS_OF_ALL = "SELECT * FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?"
EVENTS_OF_OWNER = "SELECT * FROM events WHERE owner = ? AND sequence > ? ORDER BY sequence LIMIT ?"

ARTIFACT_COLUMNS = (
    "id", "job_id", "index", "owner", "sha256", "media_type", "bytes", "width", "height", "seed", "created_at",
    "favourite", "binned_at",
)  # fmt: skip
INSERT_ARTIFACT = (
    f"INSERT INTO artifacts ({', '.join(map('[{}]'.format, ARTIFACT_COLUMNS))}) "
    f"VALUES ({', '.join(map(':{}'.format, ARTIFACT_COLUMNS))})"
)
ARTIFACT = "SELECT * FROM artifacts WHERE id = ?"
ARTIFACT_AT = 'SELECT * FROM artifacts WHERE job_id = ? AND "index" = ?'
ARTIFACTS_OF_JOB = 'SELECT * FROM artifacts WHERE job_id = ? ORDER BY "index"'
ARTIFACTS = "SELECT * FROM artifacts WHERE {} ORDER BY sequence DESC LIMIT :limit"
ARTIFACTS_WHERE = {
    "binned": "(binned_at IS NOT NULL) = :binned",
    "owner": "owner = :owner",
    "seed": "seed = :seed",
    "favourite": "favourite = :favourite",
    "since": "created_at >= :since",
    "until": "created_at < :until",
    "model": "(SELECT model FROM searched WHERE searched.job_id = artifacts.job_id) = :model",
    "words": "NOT EXISTS (SELECT 1 FROM json_each(:words) WHERE instr((SELECT words FROM searched "
    "WHERE searched.job_id = artifacts.job_id), value) = 0)",
    "tag": "EXISTS (SELECT 1 FROM jobs, json_each(jobs.tags) WHERE jobs.id = artifacts.job_id AND value = :tag)",
    "group": "(SELECT [group] FROM jobs WHERE jobs.id = artifacts.job_id) = :group",
    "before": "sequence < (SELECT sequence FROM artifacts WHERE id = :before)",
}

SAVE_ARTIFACT = """
UPDATE artifacts SET favourite = :favourite, binned_at = :binned_at,
    binned_steady = CASE WHEN :binned_at IS NULL THEN NULL ELSE coalesce(binned_steady, :steady) END
WHERE id = :id"""
MAKE_SEARCHED = """
INSERT OR IGNORE INTO searched SELECT id, searched_model(resolved), searched_words(resolved) FROM jobs WHERE id = ?"""

_DELIVERIES = """
SELECT events.*, deliveries.state, tries, said, tried_at, json_extract(jobs.webhook, '$.url') AS url
FROM deliveries JOIN events USING (sequence) JOIN jobs ON jobs.id = events.job_id WHERE """
DELIVERY = _DELIVERIES + "deliveries.sequence = ?"
DELIVERIES_OF_JOB = _DELIVERIES + "deliveries.job_id = ? ORDER BY deliveries.sequence"
UNDELIVERED = (
    _DELIVERIES + "deliveries.state = 'pending' AND deliveries.sequence > ? ORDER BY deliveries.sequence LIMIT ?"
)
ADD_DELIVERY = "INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, ?)"
SAVE_DELIVERY = "UPDATE deliveries SET state = ?, tries = ?, said = ?, tried_at = ? WHERE sequence = ?"

PUT_UPLOAD = (
    "INSERT OR REPLACE INTO uploads VALUES (:id, :owner, :media_type, :bytes, :width, :height, :created_at, :steady)"
)
UPLOAD = "SELECT * FROM uploads WHERE id = :id AND (:owner IS NULL OR owner = :owner) LIMIT 1"
PUT_NOTE = "INSERT OR REPLACE INTO notes VALUES (?, ?)"
NOTES = "SELECT key, value FROM notes WHERE substr(key, 1, length(:prefix)) = :prefix ORDER BY key"

FINISHED = """
SELECT jobs.id, ended_steady AS ended, coalesce(sum(bytes), 0) AS bytes,
    pinned OR coalesce(max(favourite AND binned_at IS NULL), 0) AS pinned
FROM jobs LEFT JOIN artifacts ON artifacts.job_id = jobs.id
WHERE ended_steady IS NOT NULL GROUP BY jobs.sequence ORDER BY ended_steady, jobs.sequence"""
FORGET = """
DELETE FROM jobs WHERE id = ? AND ended_at IS NOT NULL AND NOT pinned
AND NOT EXISTS (SELECT 1 FROM artifacts WHERE job_id = jobs.id AND favourite AND binned_at IS NULL)"""
EMPTY_BIN = """
DELETE FROM artifacts WHERE binned_steady < ?
AND (SELECT ended_at IS NOT NULL AND NOT pinned FROM jobs WHERE jobs.id = artifacts.job_id)"""
FORGET_UPLOADS = "DELETE FROM uploads WHERE given_steady < ? AND id NOT IN (SELECT sha256 FROM job_files)"
IS_NAMED = """
SELECT EXISTS (SELECT 1 FROM artifacts WHERE sha256 = :sha256)
    OR EXISTS (SELECT 1 FROM uploads WHERE id = :sha256)
    OR EXISTS (SELECT 1 FROM job_files WHERE sha256 = :sha256)"""

-- Times are seconds since the epoch; columns named request, resolved, tags, result, failure, timings, data and value
-- hold JSON. Only jobs that are over are ever deleted, with all that hangs on them.

CREATE TABLE jobs (
    sequence         INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of acceptance
    id               TEXT NOT NULL UNIQUE,
    owner            TEXT NOT NULL,
    operation        TEXT NOT NULL,
    state            TEXT NOT NULL,
    request          TEXT NOT NULL,
    resolved         TEXT NOT NULL,
    priority         INTEGER NOT NULL,
    tags             TEXT NOT NULL,
    created_at       REAL NOT NULL,
    model_key        TEXT NOT NULL,
    worker           TEXT,
    not_before       REAL,
    deadline         REAL,
    retry_of         TEXT,
    bytes_needed     INTEGER NOT NULL,
    started_at       REAL,
    ended_at         REAL,
    attempt          INTEGER NOT NULL,
    charged_errors   INTEGER NOT NULL,
    charged_crashes  INTEGER NOT NULL,
    alone            INTEGER NOT NULL,
    passed_over      INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL,
    pause_requested  INTEGER NOT NULL,
    result           TEXT,
    failure          TEXT,
    timings          TEXT NOT NULL,
    peak_bytes       INTEGER NOT NULL,
    fingerprint      TEXT NOT NULL,
    position         INTEGER NOT NULL,
    pinned           INTEGER NOT NULL,
    idempotency_key  TEXT
);
CREATE UNIQUE INDEX jobs_by_key ON jobs (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_by_owner ON jobs (owner, sequence);
CREATE INDEX jobs_in_line ON jobs (state, priority, owner, sequence, not_before) WHERE state = 'queued';
CREATE INDEX jobs_at_work ON jobs (sequence) WHERE state = 'running';
CREATE INDEX jobs_over ON jobs (ended_at) WHERE ended_at IS NOT NULL;

-- How many jobs there are of each state and priority: kept by triggers so that nobody ever counts.
CREATE TABLE tally (
    state    TEXT NOT NULL,
    priority INTEGER NOT NULL,
    jobs     INTEGER NOT NULL,
    PRIMARY KEY (state, priority)
) WITHOUT ROWID;
CREATE TRIGGER tally_inserted AFTER INSERT ON jobs BEGIN
    INSERT INTO tally VALUES (new.state, new.priority, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER tally_moved AFTER UPDATE OF state, priority ON jobs
WHEN old.state <> new.state OR old.priority <> new.priority BEGIN
    UPDATE tally SET jobs = jobs - 1 WHERE state = old.state AND priority = old.priority;
    INSERT INTO tally VALUES (new.state, new.priority, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER tally_deleted AFTER DELETE ON jobs BEGIN
    UPDATE tally SET jobs = jobs - 1 WHERE state = old.state AND priority = old.priority;
END;

-- Whose turn it was: `served` grows with every claim; the owner with the smallest goes first.
CREATE TABLE owners (
    owner  TEXT PRIMARY KEY,
    served INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE attempts (
    job_id     TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number     INTEGER NOT NULL,
    worker     TEXT NOT NULL,
    started_at REAL NOT NULL,
    ended_at   REAL,
    "end"      TEXT,
    kind       TEXT NOT NULL,
    message    TEXT NOT NULL,
    trace      TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
) WITHOUT ROWID;

-- `until` is monotonic time of the server that runs; the table is emptied when a server opens the store.
CREATE TABLE leases (
    job_id  TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    worker  TEXT NOT NULL,
    until   REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE checkpoints (
    job_id  TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    folder  TEXT NOT NULL,
    step    INTEGER NOT NULL,
    at      REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of commit
    job_id   TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number   INTEGER NOT NULL,
    owner    TEXT NOT NULL,
    kind     TEXT NOT NULL,
    data     TEXT NOT NULL,
    at       REAL NOT NULL,
    UNIQUE (job_id, number)
);
CREATE INDEX events_by_owner ON events (owner, sequence);

CREATE TABLE artifacts (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    job_id     TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    "index"    INTEGER NOT NULL,
    owner      TEXT NOT NULL,
    sha256     TEXT NOT NULL,
    media_type TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    width      INTEGER NOT NULL,
    height     INTEGER NOT NULL,
    seed       TEXT NOT NULL,  -- up to 2^64-1, which an INTEGER cannot hold
    created_at REAL NOT NULL,
    UNIQUE (job_id, "index")
);
CREATE INDEX artifacts_by_owner ON artifacts (owner, sequence);
CREATE INDEX artifacts_by_file ON artifacts (sha256);

-- The kept files that a job reads.
CREATE TABLE job_files (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (job_id, sha256)
) WITHOUT ROWID;
CREATE INDEX job_files_by_file ON job_files (sha256);

CREATE TABLE uploads (
    id         TEXT NOT NULL,
    owner      TEXT NOT NULL,
    media_type TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    width      INTEGER NOT NULL,
    height     INTEGER NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (id, owner)
) WITHOUT ROWID;

CREATE TABLE notes (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

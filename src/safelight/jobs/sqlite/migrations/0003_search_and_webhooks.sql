-- `plan`: how a deterministic job's first attempt computed. `group`: what belongs together (a grid). `webhook`: who is
-- to be told. All JSON but the group, and NULL where there is none.
ALTER TABLE jobs ADD COLUMN plan TEXT;
ALTER TABLE jobs ADD COLUMN "group" TEXT;
ALTER TABLE jobs ADD COLUMN webhook TEXT;
CREATE INDEX jobs_by_group ON jobs ("group", sequence) WHERE "group" IS NOT NULL;

ALTER TABLE artifacts ADD COLUMN favourite INTEGER NOT NULL DEFAULT 0;
ALTER TABLE artifacts ADD COLUMN binned_at REAL;
CREATE INDEX artifacts_in_bin ON artifacts (binned_at) WHERE binned_at IS NOT NULL;
CREATE INDEX artifacts_favourite ON artifacts (job_id) WHERE favourite;
CREATE INDEX artifacts_by_seed ON artifacts (seed);

-- What artifacts are searched by, of each job that has any: `words` as `searched_words` makes them of `resolved`.
CREATE TABLE searched (
    job_id TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    model  TEXT NOT NULL,
    words  TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO searched SELECT id, searched_model(resolved), searched_words(resolved) FROM jobs
    WHERE id IN (SELECT job_id FROM artifacts);

-- The outbox: which stored events a job's webhook is to hear of. Put down in the transaction of the event itself.
CREATE TABLE deliveries (
    sequence INTEGER PRIMARY KEY REFERENCES events (sequence) ON DELETE CASCADE,
    job_id   TEXT NOT NULL,
    state    TEXT NOT NULL,
    tries    INTEGER NOT NULL,
    said     TEXT NOT NULL,  -- how the last try failed
    tried_at REAL
);
CREATE INDEX deliveries_of_job ON deliveries (job_id, sequence);
CREATE INDEX deliveries_pending ON deliveries (sequence) WHERE state = 'pending';

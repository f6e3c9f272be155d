-- When things ended, were binned or given, on the clock that ages are counted on (jobs.steady). Of what was there before,
-- the wall clock's times are taken: the steady clock begins with it.
ALTER TABLE jobs ADD COLUMN ended_steady REAL;
UPDATE jobs SET ended_steady = ended_at;
ALTER TABLE artifacts ADD COLUMN binned_steady REAL;
UPDATE artifacts SET binned_steady = binned_at;
ALTER TABLE uploads ADD COLUMN given_steady REAL NOT NULL DEFAULT 0;
UPDATE uploads SET given_steady = created_at;

DROP INDEX jobs_over;
CREATE INDEX jobs_over ON jobs (ended_steady) WHERE ended_steady IS NOT NULL;
DROP INDEX artifacts_in_bin;
CREATE INDEX artifacts_in_bin ON artifacts (binned_steady) WHERE binned_steady IS NOT NULL;

-- What of bytes_needed are weights, which jobs of one model share; of older jobs nobody knows, all of it counts as work.
ALTER TABLE jobs ADD COLUMN weights_bytes INTEGER NOT NULL DEFAULT 0;

"""The catalog: models on disk, their family by header fingerprint, their hashes. No torch."""

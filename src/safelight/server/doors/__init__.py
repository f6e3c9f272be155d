"""One folder or file per dialect; each only translates to operations."""

"""The SQLite store: one file in WAL mode, one writing thread with group commit, reads on connections of their own."""

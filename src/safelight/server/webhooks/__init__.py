"""Telling other programs of a job's events: where that may lead, how it is signed, and the outbox that is emptied."""

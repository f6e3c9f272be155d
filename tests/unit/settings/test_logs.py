"""The log's two forms."""

from __future__ import annotations

import io
import json
import logging

import pytest

from safelight import logs


@pytest.fixture(autouse=True)
def as_it_was():
    logger = logging.getLogger("safelight")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def test_json_is_an_object_a_line_with_facts_and_trace():
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    log = logging.getLogger("safelight.jobs")
    log.debug("unseen")
    log.info("claimed %s", "it", extra={"job": "j1", "attempt": 2})
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed")
    claimed, failed = (json.loads(line) for line in stream.getvalue().splitlines())
    assert {key: claimed[key] for key in ("level", "logger", "message", "job", "attempt")} == {
        "level": "info",
        "logger": "safelight.jobs",
        "message": "claimed it",
        "job": "j1",
        "attempt": 2,
    }
    assert claimed["time"].endswith("Z")
    assert "ValueError: broken" in failed["trace"]


def test_text_is_for_people():
    stream = io.StringIO()
    logs.configure("debug", "text", stream)
    logging.getLogger("safelight.jobs").debug("claimed", extra={"job": "j1"})
    assert stream.getvalue().rstrip().endswith("debug   jobs: claimed job=j1")


def test_configured_again_it_writes_once():
    first, second = io.StringIO(), io.StringIO()
    logs.configure("info", "text", first)
    logs.configure("info", "text", second)
    logging.getLogger("safelight").warning("once")
    assert first.getvalue() == "" and second.getvalue().count("once") == 1

"""The log: one handler on standard error, lines for people or an object a line. Nothing is set up at import.

Modules log with `logging.getLogger(__name__)`; facts go into `extra`, which both forms show:
`log.info("claimed", extra={"job": job.id})`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Literal, TextIO

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest came through `extra`."""


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    format: Literal["text", "json"] = "text",
    stream: TextIO | None = None,
) -> None:
    """Write the log of `safelight` at `level` to `stream` (standard error if None). Again: replaces what was set up."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if format == "json" else TextLines())
    logger = logging.getLogger("safelight")
    for old in tuple(logger.handlers):
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False


class TextLines(logging.Formatter):
    """`12:00:01.250 info    server: message key=value`, and the trace under it."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as a line, or several where there is a trace."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        name = record.name.removeprefix("safelight.")
        facts = "".join(f" {key}={value}" for key, value in _facts(record).items())
        milliseconds = int(record.msecs)
        line = f"{clock}.{milliseconds:03d} {record.levelname.lower():7} {name}: {record.getMessage()}{facts}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """An object a line: time (UTC, ISO 8601), level, logger, message, the facts, and trace where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON; what JSON cannot hold is written as text."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _facts(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _OWN}

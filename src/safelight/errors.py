"""Every error Safelight raises on purpose.

    SafelightError
    ├── InvalidRequest        one or more InvalidValue: what was asked cannot be
    │   └── (errors)          InvalidValue(path, value, allowed, hint)
    ├── OperationUnavailable  no handler for this operation here
    ├── NotFound              no job, artifact, upload, model of that id
    ├── Conflict              the same key with another body; a move the state does not allow
    ├── QueueFull             `max_queued` reached; try again later
    ├── UnreadableFile        a weights or picture file that is broken, foreign or refused
    ├── OutOfMemory           what is wanted, held and free, in bytes
    │   └── NoRoomNow         it would fit, were the others done
    ├── StaleAttempt          a writer whose attempt is over (fencing)
    ├── StoreUnusable         the database is newer, locked or corrupt
    ├── WorkerUnavailable     no worker can take this
    ├── ServerNotRunning      no server answers at the URL
    └── InvalidSettings       every SettingFault of file, variables and options; lives in `settings.faults`

Each says what happened in `message` and the way out in `hint`; `kind` is its name on the wire.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import ClassVar

UNWRITABLE: frozenset[int] = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Numbers of an OSError where a disk takes nothing more: full, over its quota, read-only. No fault of who asked."""


class SafelightError(Exception):
    """The root. `message`: what happened, with the value. `hint`: the way out, or empty."""

    kind: ClassVar[str] = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".rstrip())
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class InvalidValue:
    """One thing wrong with a request: where (`path`, dotted), what is wrong with the value, the way out."""

    path: str
    message: str
    hint: str = ""


class InvalidRequest(SafelightError):
    """The request cannot be carried out as asked. `errors` lists everything wrong with it, not the first only."""

    kind = "invalid_request"

    def __init__(self, *errors: InvalidValue) -> None:
        if not errors:
            raise ValueError("InvalidRequest needs at least one InvalidValue")
        self.errors = errors
        super().__init__("; ".join(f"{error.path}: {error.message}" for error in errors), errors[0].hint)


class OperationUnavailable(SafelightError):
    """The operation exists in the contract, but nothing here can carry it out."""

    kind = "operation_unavailable"


class NotFound(SafelightError):
    """Nothing has that id or name, or it belongs to another owner."""

    kind = "not_found"


class Conflict(SafelightError):
    """The request contradicts what is stored: a reused key, an impossible move."""

    kind = "conflict"


class QueueFull(SafelightError):
    """The queue holds `max_queued` jobs. `retry_after_s`: when to try again."""

    kind = "queue_full"

    def __init__(self, message: str, hint: str = "", *, retry_after_s: float = 5.0) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


class UnreadableFile(SafelightError):
    """A file that is broken, of another format than it claims, or refused for safety."""

    kind = "unreadable_file"


class OutOfMemory(SafelightError):
    """It does not fit: the message says the bytes wanted, held and free, the hint the plan that would be needed."""

    kind = "out_of_memory"


class NoRoomNow(OutOfMemory):
    """It does not fit beside what is in use; once that is done it does. Worth waiting for, where others are at work."""


class StaleAttempt(SafelightError):
    """A message, checkpoint or artifact of an attempt that is over. The writer must drop its work."""

    kind = "stale_attempt"


class StoreUnusable(SafelightError):
    """The database cannot be used: newer than the program, locked by another, or corrupt."""

    kind = "store_unusable"


class WorkerUnavailable(SafelightError):
    """No worker here can ever take this job; the message says why."""

    kind = "worker_unavailable"


class ServerNotRunning(SafelightError):
    """No Safelight server answers."""

    kind = "server_not_running"

"""Where a server is: the `server.json` it keeps in its data folder while it runs.

The file holds pid, URL and a token that proves access to this machine's account (it is readable by the owner alone).
A file left by a server that was killed is told by its pid: it is gone, or another process has it by now.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

FILE_NAME = "server.json"


@dataclass(frozen=True)
class Address:
    """A running server. `born`: when its process was created, in seconds since the epoch, to know it from a later
    process of the same pid. `url`: empty until it listens. `token`: lets the local account stop it."""

    pid: int
    born: float
    url: str
    token: str

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        try:
            process = psutil.Process(self.pid)
            return bool(abs(process.create_time() - self.born) < 2.0 and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False

    def text(self) -> str:
        """The file's content."""
        return json.dumps(asdict(self), indent=1)


def read(home: Path) -> Address | None:
    """The server that runs on the data folder `home`, or None; a stale or half-made file is None."""
    try:
        address = Address(**json.loads((home / FILE_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return address if address.alive else None

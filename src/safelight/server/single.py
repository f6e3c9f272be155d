"""One server a data folder: an operating-system lock, and `server.json` that says where the server is.

The lock falls with its process, however that ends, so nothing has to be cleared after a kill.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import IO

import psutil

from safelight.client import address
from safelight.client.address import Address
from safelight.errors import Conflict

LOCK_NAME = "server.lock"


class FolderLock:
    """The claim of one server on the data folder `home`. `token`: fresh for every server."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.token = secrets.token_urlsafe(32)
        self._file: IO[bytes] | None = None

    @property
    def held(self) -> bool:
        """Whether the folder is ours."""
        return self._file is not None

    def acquire(self) -> None:
        """Take the folder (once); Conflict that says where the other server is."""
        if self._file is not None:
            return
        self.home.mkdir(parents=True, exist_ok=True)
        file = (self.home / LOCK_NAME).open("a+b")
        try:
            _lock(file)
        except OSError:
            file.close()
            raise Conflict(*self._taken()) from None
        self._file = file
        self.announce("")

    def announce(self, url: str) -> Address:
        """Write `server.json`, whole or not at all and for this account's eyes only."""
        if self._file is None:
            raise Conflict("The data folder is not held.", "Acquire the lock before announcing the server.")
        here = Address(os.getpid(), psutil.Process().create_time(), url, self.token)
        target = self.home / address.FILE_NAME
        temporary = target.with_suffix(".json.new")
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(here.text())
        temporary.replace(target)
        return here

    def release(self) -> None:
        """Let go of the folder; nothing happens where it is not held."""
        if self._file is None:
            return
        (self.home / address.FILE_NAME).unlink(missing_ok=True)
        self._file.close()
        self._file = None

    def _taken(self) -> tuple[str, str]:
        other = address.read(self.home)
        where = "" if other is None else f" at {other.url or '(starting)'} with pid {other.pid}"
        return (
            f"A server is running on {self.home} already{where}.",
            "Use that one, stop it with `safelight stop`, or give this one another folder with SAFELIGHT_HOME.",
        )


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

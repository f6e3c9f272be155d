"""Hearing of a file's birth at once (inotify), to strike in the very moment when it is written. Linux only."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

IN_CREATE, IN_ISDIR = 0x100, 0x40000000
EVENT = struct.Struct("iIII")


class Watch:
    """Calls `strike` once, `delay_s` after the `nth` name ending in `.part` was born anywhere under `folder`.

    `struck_at`: when that was (seconds since the epoch), or None. A delay of 0 strikes at once.
    """

    def __init__(self, folder: Path, strike: Callable[[], None], nth: int = 1, delay_s: float = 0.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.struck_at: float | None = None
        self._strike, self._left, self._delay_s = strike, nth, delay_s
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_CLOEXEC)
        self._folders: dict[int, Path] = {}
        self._seen: set[Path] = set(leftovers(folder))
        self._stop, self._stopper = os.pipe()
        self._follow(folder)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._stopper, b"x")
        self._thread.join()
        for handle in (self._handle, self._stop, self._stopper):
            os.close(handle)

    def _follow(self, folder: Path) -> None:
        """Watch a folder and those inside; what was born before the watch stood is noticed now."""
        number = self._libc.inotify_add_watch(self._handle, os.fsencode(folder), IN_CREATE)
        if number < 0:
            return  # gone already
        self._folders[number] = folder
        try:
            inside = list(os.scandir(folder))
        except FileNotFoundError:
            return
        for each in inside:
            self._born(Path(each.path), each.is_dir())

    def _born(self, path: Path, is_folder: bool) -> None:
        if path.name.endswith(".part"):
            if path not in self._seen:
                self._seen.add(path)
                self._count()
        elif is_folder:
            self._follow(path)

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            if self._delay_s:
                time.sleep(self._delay_s)
            self.struck_at = time.time()
            self._strike()

    def _run(self) -> None:
        while self._stop not in select.select([self._handle, self._stop], [], [])[0]:
            data, at = os.read(self._handle, 65536), 0
            while at < len(data):
                number, mask, _, length = EVENT.unpack_from(data, at)
                name = data[at + EVENT.size : at + EVENT.size + length].rstrip(b"\0")
                at += EVENT.size + length
                if number in self._folders:
                    self._born(self._folders[number] / os.fsdecode(name), bool(mask & IN_ISDIR))


def leftovers(folder: Path) -> list[Path]:
    """Everything half-made under a folder."""
    return sorted(path for path in folder.rglob("*") if ".part" in path.name or path.name.endswith(".aside"))

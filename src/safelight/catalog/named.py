"""The model folders that a settings file names, read anew when the file changes: no server need start again for one."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from safelight.settings import InvalidSettings, load_settings

log = logging.getLogger(__name__)


class NamedFolders:
    """`models.folders` and `models.lora_folders` of `file` as it stands now; nothing where there is no such file.

    A file that cannot be read or says something wrong is told in the log, and what it said before holds. A look costs
    one `stat` while nothing changes. Safe between threads.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._mark: tuple[int, int, int] | None = None
        self._folders: tuple[Path, ...] = ()

    def __call__(self) -> tuple[Path, ...]:
        """The folders, in the order of the file."""
        with self._lock:
            mark = self._marked()
            if mark != self._mark:
                self._mark = mark
                self._folders = () if mark is None else self._read()
            return self._folders

    def _marked(self) -> tuple[int, int, int] | None:
        try:
            stat = self._file.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> tuple[Path, ...]:
        try:
            said = load_settings(file=self._file, environ={}).models
        except (InvalidSettings, OSError) as error:
            log.warning("%s has changed and cannot be read; its model folders stay as they were: %s", self._file, error)
            return self._folders
        return (*said.folders, *said.lora_folders)

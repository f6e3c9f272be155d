"""SHA-256 of whole files, computed by a thread in the background and remembered across starts."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

_PIECE = 8 << 20


class FileHashes:
    """Hashes of files by path, kept in a JSON file under (size, time of change, inode).

    `known` never waits; `want` queues a file for the thread, which starts with the first one. A damaged store is
    begun anew: everything in it can be computed again; one that cannot be written is told in the log, and what was
    computed holds until the program ends. `hashed(path, sha256)` is told of every new hash, in the
    thread.
    """

    def __init__(self, store: Path, hashed: Callable[[Path, str], None] | None = None) -> None:
        self._store = store
        self._hashed = hashed
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, object]] = _load(store)
        self._queue: queue.Queue[Path | None] = queue.Queue()
        self._waiting: set[Path] = set()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def known(self, path: Path) -> str:
        """The hash of the file as it is now, or "" while nobody has computed it."""
        mark = _mark(path)
        with self._lock:
            line = self._known.get(str(path.absolute()), {})
        return str(line["sha256"]) if mark is not None and line.get("mark") == mark else ""

    def want(self, path: Path) -> None:
        """Have the file hashed in the background, once."""
        path = path.absolute()
        if self.known(path):
            return
        with self._lock:
            if path in self._waiting or self._closing.is_set():
                return
            self._waiting.add(path)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="file-hashes", daemon=True)
                self._thread.start()
        self._queue.put(path)

    def drain(self) -> None:
        """Return when everything wanted so far is computed."""
        self._queue.join()

    def close(self) -> None:
        """Stop, in the middle of a file if need be."""
        self._closing.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while (path := self._queue.get()) is not None and not self._closing.is_set():
            try:
                self._hash(path)
            finally:
                with self._lock:
                    self._waiting.discard(path)
                self._queue.task_done()

    def _hash(self, path: Path) -> None:
        """A file that changes or goes while it is read is left without a hash; it will be wanted again."""
        before = _mark(path)
        try:
            digest = self._digest(path)
        except OSError:
            return
        if before is None or digest is None or _mark(path) != before:
            return
        with self._lock:
            self._known[str(path)] = {"mark": before, "sha256": digest}
            try:
                _save(self._store, self._known)
            except OSError:
                # Known until the program ends, and kept with the next hash that can be kept.
                log.exception("The hashes of files cannot be kept in %s.", self._store)
        if self._hashed is not None:
            self._hashed(path, digest)

    def _digest(self, path: Path) -> str | None:
        total = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                if self._closing.is_set():
                    return None
                total.update(piece)
        return total.hexdigest()


def _mark(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _load(store: Path) -> dict[str, dict[str, object]]:
    try:
        said = json.loads(store.read_bytes())
    except (OSError, ValueError):
        return {}
    lines = said.items() if isinstance(said, dict) else ()
    return {path: line for path, line in lines if isinstance(line, dict) and isinstance(line.get("sha256"), str)}


def _save(store: Path, known: dict[str, dict[str, object]]) -> None:
    """Whole or not at all."""
    store.parent.mkdir(parents=True, exist_ok=True)
    partial = store.with_name(f"{store.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(known, indent=0))
        partial.replace(store)
    finally:  # on a full disk, half of it would take the room it lacks
        partial.unlink(missing_ok=True)

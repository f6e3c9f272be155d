"""Pinning a weights file at submission, and noticing later that it is no longer the one meant."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safelight.catalog.declarations import sidecars
from safelight.catalog.folders import INDEX, Folder
from safelight.catalog.headers import read_header
from safelight.core.files import FileRef
from safelight.errors import UnreadableFile


def pin(name: str, path: Path) -> FileRef:
    """A reference to the file as it is now; a diffusers folder by its model_index.json.

    The user's override beside it decides pictures too, so where there is one it counts into the hash.
    """
    if path.name == INDEX:
        path = path.parent
    file = (path / INDEX if path.is_dir() else path).absolute()
    header = Folder(file.parent).hash() if file.name == INDEX else read_header(file).hash
    override = sidecars(path)[0]
    if override.is_file():
        header = hashlib.sha256(header.encode() + override.read_bytes()).hexdigest()
    stat = file.stat()
    return FileRef(
        name=name,
        path=str(file),
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        inode=stat.st_ino,
        header_hash=header,
    )


def check(ref: FileRef) -> None:
    """Nothing where the file is the one that was pinned, or one of equal content; UnreadableFile otherwise.

    A copy or another time of change is no other file as long as size and header agree.
    """
    path = Path(ref.path)
    if not path.is_file():
        raise UnreadableFile(f"{path}, which this job needs, is gone.", f"Put {ref.name} back, or submit again.")
    now = pin(ref.name, path)
    if (now.size, now.header_hash) != (ref.size, ref.header_hash):
        raise UnreadableFile(
            f"{path} has changed since this job was submitted.", f"Put {ref.name} back as it was, or submit again."
        )

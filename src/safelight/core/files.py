"""References to files on disk, as a job keeps them: enough to notice that a file is no longer the one meant."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FileRef(BaseModel):
    """A weights file pinned at submission.

    `path` absolute; `size` bytes; `mtime_ns`, `inode` from stat; `header_hash` SHA-256 of the file's header (its
    tensor names, shapes, offsets and metadata); `sha256` of the whole file once the catalog has read it, else "".
    A diffusers folder is referred to by its model_index.json.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    path: str
    size: int
    mtime_ns: int
    inode: int
    header_hash: str
    sha256: str = ""

    @property
    def key(self) -> str:
        """What names these weights in caches and passes: equal for equal content."""
        return f"{self.header_hash}:{self.size}:{self.mtime_ns}"


class UploadRef(BaseModel):
    """A picture kept by the server, content-addressed. `path` absolute; `sha256` of its bytes; sides in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    path: str
    sha256: str
    media_type: str
    width: int
    height: int

"""Media: the picture formats Safelight reads and writes, told by content and not by name."""

from __future__ import annotations

from typing import Literal

PictureFormat = Literal["png", "webp", "jpeg", "avif"]

MEDIA_TYPES: dict[PictureFormat, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "jpeg": "image/jpeg",
    "avif": "image/avif",
}

MAX_UPLOAD_BYTES = 32 * 1024 * 1024
MAX_UPLOAD_PIXELS = 64_000_000


def sniff(head: bytes) -> str | None:
    """The media type that the first bytes of a file show, or None. `head`: at least 16 bytes."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "image/avif"
    return None

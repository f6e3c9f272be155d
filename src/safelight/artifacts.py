"""Finished files: whole or not at all, named by their content, with what made them written inside."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import stat
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from PIL import ExifTags, Image, PngImagePlugin

from safelight.core.media import MEDIA_TYPES, PictureFormat, sniff
from safelight.errors import UnreadableFile

MAX_METADATA_BYTES = 8 * 1024 * 1024
"""Most text that is read from a file: a prompt, a request and a large graph are far below."""

PARAMETERS = "parameters"
"""The A1111 infotext's name among the texts of a picture."""

REQUEST = "safelight"
"""The name of the resolved request (JSON) among the texts of a picture."""

MADE = "safelight_made"
"""The name of how the picture was made (JSON): `picture`, its number in the job; `plan` (core.plans); `width`, the
rows of its widest pass."""

_SHA256 = re.compile("[0-9a-f]{64}")
_USER_COMMENT = 0x9286
_MAX_JPEG_EXIF = 65_000
_JPEG_SEGMENT = b"SAFELIGHT\0"
_JPEG_SEGMENT_BYTES = 65_000
_COMFY_TAGS = (0x010F, 0x0110)
_TEMPORARY = ".part"
_ASIDE = ".aside"


class Files:
    """A folder of content-addressed files: `root`/ab/abcd… holds the bytes whose SHA-256 is abcd….

    A file is written beside under a temporary name, synced and renamed; so what has its name is whole, after any
    crash. Several processes may put at once.
    """

    def __init__(self, root: Path) -> None:
        """`root` is made when something is put there."""
        self.root = root

    def path(self, sha256: str) -> Path:
        """Where the file of that content lies or would lie. ValueError for what is no SHA-256."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is not a SHA-256 in lower-case hex digits")
        return self.root / sha256[:2] / sha256

    def temporary(self, suffix: str = "") -> Path:
        """A new name in the root for a program that must write a file itself (a video encoder); then `adopt` it."""
        self.root.mkdir(parents=True, exist_ok=True)
        return self.root / f".{secrets.token_hex(8)}{_TEMPORARY}{suffix}"

    def put(self, data: bytes) -> str:
        """Keep these bytes; their SHA-256. Synced on return."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.freshen(sha256):
            temporary = self.temporary()
            try:
                temporary.write_bytes(data)
                self._place(temporary, sha256)
            finally:  # what a full disk cut short must not fill it further; once placed, nothing has this name
                temporary.unlink(missing_ok=True)
        return sha256

    def adopt(self, temporary: Path) -> str:
        """Keep a file written under a name of `temporary()`, which is gone afterwards; its SHA-256."""
        with temporary.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if self.freshen(sha256):
            temporary.unlink()
        else:
            self._place(temporary, sha256)
        return sha256

    def sweep(self) -> int:
        """Remove temporaries that a crash left; how many. For the start, before anybody writes. What a crash left half
        removed comes back: it may have been put again."""
        for path in self.root.glob(f".*{_ASIDE}"):
            sha256 = path.name[1 : -len(_ASIDE)]
            if _SHA256.fullmatch(sha256):
                path.replace(self.path(sha256))
        left = [path for path in self.root.glob(f".*{_TEMPORARY}*") if path.is_file()]
        for path in left:
            path.unlink()
        return len(left)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """Each file's SHA-256 and when it was last put (seconds since the epoch). What other programs left in the
        folders (Thumbs.db, .DS_Store, a folder) is none of ours and is not seen."""
        for path in self.root.glob("[0-9a-f][0-9a-f]/*"):
            if not _SHA256.fullmatch(path.name) or path.name[:2] != path.parent.name:
                continue
            with contextlib.suppress(FileNotFoundError):
                facts = path.stat(follow_symlinks=False)
                if stat.S_ISREG(facts.st_mode):
                    yield path.name, facts.st_mtime

    def remove(self, sha256: str, put_before: float) -> int:
        """Remove the file unless it was put again since `put_before`; its bytes, or 0 where it stays or is gone.

        It is moved aside first: whoever puts the same content now either still freshens it (seen here, and it comes
        back) or finds no file and writes it anew.
        """
        aside = self.root / f".{sha256}{_ASIDE}"
        try:
            self.path(sha256).rename(aside)
            facts = aside.stat()
        except FileNotFoundError:
            return 0
        if facts.st_mtime >= put_before:
            aside.replace(self.path(sha256))
            return 0
        aside.unlink()
        return facts.st_size

    def freshen(self, sha256: str) -> bool:
        """Whether the content is there; if so it counts as put now, so that `remove` leaves it."""
        try:
            os.utime(self.path(sha256))
        except FileNotFoundError:
            return False
        return True

    def _place(self, temporary: Path, sha256: str) -> None:
        path = self.path(sha256)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            sync_folder(self.root)
        os.utime(temporary)
        temporary.replace(path)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the folder's names last. Windows has no such call; NTFS keeps them in its journal."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def encode_picture(pixels: Image.Image, format: PictureFormat, quality: int, metadata: Mapping[str, str]) -> bytes:
    """A picture file with texts inside. `quality`: 1–100; PNG has none, and WebP at 100 is lossless.

    `metadata`: `parameters` (the A1111 infotext), `safelight` (the resolved request as JSON) and others by name. PNG
    has a text chunk for each, as A1111 and ComfyUI write them. The other formats carry the infotext in EXIF
    UserComment, where A1111 looks for it, and the rest as one JSON object in EXIF ImageDescription. JPEG knows no
    transparency: such pixels are laid on white.
    """
    file = io.BytesIO()
    if format == "png":
        info = PngImagePlugin.PngInfo()
        for name, text in metadata.items():
            info.add_text(name, text)  # tEXt where Latin-1 suffices, else iTXt
        pixels.save(file, "PNG", pnginfo=info)
        return file.getvalue()
    options: dict[str, Any] = {"quality": quality}
    if format == "jpeg":
        pixels = _on_white(pixels)
        exif, options["extra"] = _jpeg_metadata(metadata)
    else:
        exif = _exif(metadata.get(PARAMETERS), {name: metadata[name] for name in metadata if name != PARAMETERS})
    if format == "webp":
        options |= {"lossless": quality == 100, "exact": True}
    pixels.save(file, format.upper(), exif=exif, **options)
    return file.getvalue()


def read_metadata(source: bytes | Path) -> dict[str, str]:
    """The texts inside a picture, by name, from any program; {} where there are none.

    Reads no pixels. UnreadableFile for what is no whole PNG, JPEG, WebP or AVIF, or carries more than
    MAX_METADATA_BYTES.
    """
    name = str(source) if isinstance(source, Path) else "the picture"
    with contextlib.ExitStack() as stack:
        try:
            file: IO[bytes] = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
            stack.enter_context(file)
            media_type = sniff(file.read(16))
            file.seek(0)
            if media_type is None:
                raise UnreadableFile(f"{name} is no picture.", f"There are: {', '.join(MEDIA_TYPES)}.")
            picture = stack.enter_context(Image.open(file, formats=[media_type.removeprefix("image/")]))
            found = _texts(picture)
        except (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error, LookupError, TypeError,
                Image.DecompressionBombError) as error:  # fmt: skip
            raise UnreadableFile(f"{name} cannot be read as a picture: {error}.", "Is the file whole?") from error
    size = sum(len(text) for text in found.values())
    if size > MAX_METADATA_BYTES:
        raise UnreadableFile(f"{name} carries {size} characters of text; at most {MAX_METADATA_BYTES} are read.")
    return found


def _texts(picture: Image.Image) -> dict[str, str]:
    """PNG's text chunks; else what EXIF and our JPEG segments hold."""
    if picture.format == "PNG":
        return {str(name): str(text) for name, text in picture.info.items() if isinstance(text, str)}
    found: dict[str, str] = {}
    exif = picture.getexif()
    for tag in _COMFY_TAGS:  # ComfyUI writes "workflow:{…}" and "prompt:{…}" into Make and Model
        name, colon, text = str(exif.get(tag, "")).partition(":")
        if colon and name in ("workflow", "prompt"):
            found[name] = text
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(_USER_COMMENT)
    if isinstance(comment, bytes) and (text := _of_user_comment(comment)):
        found[PARAMETERS] = text
    described = exif.get(ExifTags.Base.ImageDescription)
    if isinstance(described, str) and described:
        found |= _of_json(described) or {"description": described}
    segments = b"".join(
        data[len(_JPEG_SEGMENT) :]
        for marker, data in getattr(picture, "applist", ())
        if marker == "APP11" and data.startswith(_JPEG_SEGMENT)
    )
    return found | (_of_json(segments.decode("ascii")) or {} if segments else {})


def _exif(parameters: str | None, others: Mapping[str, str]) -> bytes:
    exif = Image.Exif()
    if others:
        exif[ExifTags.Base.ImageDescription] = json.dumps(dict(others))  # ASCII, as the tag demands
    if parameters is not None:
        comment = b"UNICODE\0" + parameters.encode("utf-16-be", "surrogatepass")
        exif[ExifTags.IFD.Exif] = {_USER_COMMENT: comment}
    return exif.tobytes()


def _jpeg_metadata(metadata: Mapping[str, str]) -> tuple[bytes, bytes]:
    """(EXIF, further segments). A segment of JPEG ends at 64 KiB: what is longer goes into APP11 segments of our own,
    one JSON object cut into pieces; the infotext stays in EXIF where it fits, for others to read."""
    parameters = metadata.get(PARAMETERS)
    exif = _exif(parameters, {name: metadata[name] for name in metadata if name != PARAMETERS})
    if len(exif) <= _MAX_JPEG_EXIF:
        return exif, b""
    exif = _exif(parameters, {})
    if len(exif) > _MAX_JPEG_EXIF:
        exif = _exif(None, {})
    whole = json.dumps(dict(metadata)).encode("ascii")
    pieces = [whole[at : at + _JPEG_SEGMENT_BYTES] for at in range(0, len(whole), _JPEG_SEGMENT_BYTES)]
    length = len(_JPEG_SEGMENT) + 2
    return exif, b"".join(b"\xff\xeb" + struct.pack(">H", length + len(each)) + _JPEG_SEGMENT + each for each in pieces)


def _of_user_comment(comment: bytes) -> str:
    """The text of an EXIF UserComment: eight bytes of encoding, then the text. As A1111 writes it, UTF-16 is big-endian
    unless a byte order mark says otherwise."""
    kind, text = comment[:8], comment[8:]
    if kind == b"UNICODE\0":
        if text.startswith(b"\xff\xfe"):
            return text[2:].decode("utf-16-le", "replace")
        return text.decode("utf-16-be", "replace")
    return text.decode("utf-8", "replace").strip("\0") if kind in (b"ASCII\0\0\0", bytes(8)) else ""


def _of_json(text: str) -> dict[str, str]:
    """The texts of a JSON object as we write it; {} for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        return {}
    return found


def _on_white(pixels: Image.Image) -> Image.Image:
    if not pixels.has_transparency_data:
        return pixels.convert("RGB")
    above = pixels.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")

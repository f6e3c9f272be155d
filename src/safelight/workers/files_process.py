"""The files process: decodes pictures that nobody vouches for, so that the server never does.

Small and fast to start (Pillow and msgspec, no torch), bounded in memory and CPU time where the system can do that.
A picture that is refused is an answer in words; one that breaks a decoder ends this process and no other (files.py
starts the next). Requests come on stdin, answers go to stdout, in order; the end of stdin ends it.
"""

from __future__ import annotations

import io
import os
import signal
import struct
import sys
import zlib
from pathlib import Path

from PIL import Image, ImageOps

from safelight.core.media import MAX_UPLOAD_BYTES, MAX_UPLOAD_PIXELS, sniff
from safelight.workers.messages import (
    FromFiles,
    InspectPicture,
    MakeThumbnail,
    PictureFacts,
    Refused,
    Thumbnail,
    ToFiles,
)
from safelight.workers.stdio import Stdio

MEMORY_LIMIT = 3 * 2**30
"""Address space, bytes. A 64 megapixel picture takes 256 MiB as RGBA, and animated WebP three such canvases."""

CPU_S = 60
"""Seconds of CPU that one request may take."""

FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/avif": "AVIF"}
TAKEN = "PNG, JPEG, WebP and AVIF are taken."

BROKEN = (OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, EOFError, struct.error, zlib.error)
"""What Pillow's decoders raise for a file that is broken. Anything else ends the process, with its trace in the log."""


class Unfit(Exception):
    """A picture that is not taken: what is wrong, the way out."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.refusal = Refused(kind="unreadable_file", message=message, hint=hint)


def inspect(path: Path) -> PictureFacts:
    """The facts of a whole picture; Unfit otherwise. Sizes are checked before decoding, then every frame is decoded."""
    media_type, content = _read(path)
    try:
        with Image.open(io.BytesIO(content), formats=[FORMATS[media_type]]) as image:
            frames = int(getattr(image, "n_frames", 1))
            _check_size(path, image.width, image.height, frames)
            for frame in range(frames):
                image.seek(frame)
                image.load()
            return PictureFacts(media_type=media_type, width=image.width, height=image.height, frames=frames)
    except BROKEN as error:
        raise _broken(path, media_type, error) from error


def thumbnail(path: Path, side: int) -> Thumbnail:
    """A WebP of the picture's first frame, upright, its longer side at most `side` pixels; Unfit otherwise."""
    media_type, content = _read(path)
    try:
        with Image.open(io.BytesIO(content), formats=[FORMATS[media_type]]) as image:
            _check_size(path, image.width, image.height)
            image.draft(None, (side * 2, side * 2))
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16 bits: converting would cut them off, not scale them
                upright = upright.point(lambda value: value / 256).convert("L")
            small = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
            small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
            file = io.BytesIO()
            small.save(file, "WEBP", quality=80)
            return Thumbnail(data=file.getvalue(), width=small.width, height=small.height)
    except BROKEN as error:
        raise _broken(path, media_type, error) from error


def answer(request: ToFiles) -> FromFiles:
    """What becomes of a request; a picture that is not taken is a Refused."""
    path = Path(request.path)
    try:
        match request:
            case InspectPicture():
                return inspect(path)
            case MakeThumbnail():
                return thumbnail(path, request.side)
    except Unfit as unfit:
        return unfit.refusal
    except MemoryError:
        return Refused(
            kind="unreadable_file",
            message=f"{path.name} needs more than {MEMORY_LIMIT // 2**20} MiB to decode.",
            hint="Give a smaller picture.",
        )


def _read(path: Path) -> tuple[str, bytes]:
    """(media type, content) of a file of allowed size that begins like a picture."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_UPLOAD_BYTES:
                limit = MAX_UPLOAD_BYTES // 2**20
                raise Unfit(f"{path.name} has {size} bytes; at most {limit} MiB are taken.", "Compress it more.")
            content = file.read(MAX_UPLOAD_BYTES + 1)
    except OSError as error:
        raise Unfit(f"{path.name} cannot be read: {error.strerror}.", "Give it again.") from error
    media_type = sniff(content[:32])
    if media_type is None:
        raise Unfit(f"{path.name} is no picture: it begins with {content[:12]!r}.", TAKEN)
    return media_type, content


def _check_size(path: Path, width: int, height: int, frames: int = 1) -> None:
    if width * height * frames > MAX_UPLOAD_PIXELS:
        times = f" x {frames} frames" if frames > 1 else ""
        pixels = width * height * frames / 1e6
        limit = MAX_UPLOAD_PIXELS / 1e6
        message = f"{path.name} has {width} x {height}{times} = {pixels:.1f} megapixels; at most {limit:g} are taken."
        raise Unfit(message, "Give a smaller picture.")


def _broken(path: Path, media_type: str, error: Exception) -> Unfit:
    text = str(error) or type(error).__name__
    return Unfit(f"{path.name} begins like {media_type} but is broken or cut short: {text}.", "Save or send it again.")


def _limit_memory() -> None:
    if sys.platform == "win32":
        return
    import resource  # not on Windows

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _limit_cpu() -> None:
    """From now on CPU_S more seconds: beyond, SIGXCPU ends the process."""
    if sys.platform == "win32":
        return
    import resource  # not on Windows

    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(usage.ru_utime + usage.ru_stime) + CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def main() -> None:
    """Run as `python -m safelight.workers.files_process PARENT`."""
    stdio: Stdio[ToFiles] = Stdio(ToFiles)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's
    _limit_memory()
    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked first, and in our words
    for request in stdio:
        _limit_cpu()
        stdio.send(answer(request))


if __name__ == "__main__":
    main()

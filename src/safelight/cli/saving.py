"""Where finished pictures are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from safelight.client import Client, Job

FORMATS: Mapping[str, str] = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg", ".avif": "avif"}
"""The formats that a file's ending asks for."""


def is_folder(destination: str) -> bool:
    """Whether `-o` means a folder: one is there, or it ends like one."""
    return destination.endswith(("/", "\\")) or Path(destination).is_dir()


def check(destination: str | None) -> None:
    """Refuse a place that could not be written to, before anything is drawn."""
    if destination is None or is_folder(destination):
        return
    parent = Path(destination).expanduser().absolute().parent
    if not parent.is_dir():
        raise click.BadParameter(f"There is no folder {parent}. Make it, or end the name with / to have it made.",
                                 param_hint="'-o'")  # fmt: skip


def format_of(destination: str | None) -> str | None:
    """The format that the file's ending asks for, if any."""
    if destination is None or is_folder(destination):
        return None
    return FORMATS.get(Path(destination).suffix.lower())


def targets(destination: str | None, artifacts: tuple[Mapping[str, Any], ...]) -> list[Path]:
    """A path for each picture: the file itself, numbered where there are several; in a folder, named by its id."""
    if destination is None or is_folder(destination):
        folder = Path(destination or ".").expanduser()
        return [folder / f"{each['id']}.{each['media_type'].partition('/')[2]}" for each in artifacts]
    file = Path(destination).expanduser()
    if len(artifacts) == 1:
        return [file]
    return [file.with_name(f"{file.stem}-{number}{file.suffix}") for number, _ in enumerate(artifacts, 1)]


def save(client: Client, job: Job, destination: str | None) -> list[Path]:
    """Fetch the job's pictures and write them; where."""
    written = []
    for path, artifact in zip(targets(destination, job.artifacts), job.artifacts, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.artifact(artifact["id"]))
        written.append(path)
    return written


def record(job: Job, files: list[Path]) -> dict[str, Any]:
    """The job's record, with where its pictures were written, as --json prints it."""
    return {**job.fields, "files": [str(path) for path in files]}

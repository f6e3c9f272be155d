"""Retention: which finished jobs go, and the files that nobody names any more.

What is stored is forgotten first, then the files it alone named are removed: a crash in between leaves files that the
next round finds. Nothing that is queued, running, paused or pinned is touched. Ages are counted on the store's steady
clock (jobs.steady), so that a wall clock that jumps makes nothing old.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safelight.artifacts import Files
from safelight.errors import SafelightError
from safelight.jobs.records import Finished
from safelight.jobs.store import Store

DAY_S = 86_400.0

GRACE_S = 3_600.0
"""A file stays this long after it was put, named or not: its row may still be on the way."""

_AT_ONCE = 500


@dataclass(frozen=True)
class Retention:
    """How long finished jobs stay: at most `days` after their end, and the youngest that together have at most `bytes`
    of artifacts. What lies in the bin stays `bin_days`. None: no limit of that kind."""

    days: float | None = 30.0
    bytes: int | None = None
    bin_days: float | None = 7.0


@dataclass(frozen=True)
class Folders:
    """Where the files are. `checkpoints` has a folder for each job, named by its id; `thumbnails` small pictures of
    artifacts, named ab/abcd…-side.webp by the SHA-256 of what they show."""

    artifacts: Files
    uploads: Files
    checkpoints: Path
    thumbnails: Path


@dataclass(frozen=True)
class Tidied:
    """What a round removed: jobs, artifacts out of the bin, uploads (rows), files and their bytes, checkpoint
    folders."""

    jobs: int
    binned: int
    uploads: int
    files: int
    bytes: int
    checkpoints: int


def to_forget(finished: Sequence[Finished], retention: Retention, now: float) -> list[str]:
    """Ids of the jobs that go, oldest end first. `now`: on the steady clock.

    A pinned job's bytes count, but it stays. A file that two jobs name counts for both: the sum errs towards a fuller
    disk than there is.
    """
    oldest_first = sorted(finished, key=lambda job: job.ended)
    kept_bytes = sum(job.bytes for job in oldest_first)
    going = []
    for job in oldest_first:
        too_old = retention.days is not None and job.ended < now - retention.days * DAY_S
        too_much = retention.bytes is not None and kept_bytes > retention.bytes and job.bytes > 0
        if not job.pinned and (too_old or too_much):
            going.append(job.id)
            kept_bytes -= job.bytes
    return going


async def tidy(store: Store, retention: Retention, folders: Folders, files_before: float) -> Tidied:
    """One round. `files_before`: what was put later stays, named or not; wall time, as the files' own.

    Where the store cannot write, the files that nobody names go all the same, which may be what gives it room; what it
    said is raised then.
    """
    jobs = binned = uploads = 0
    failed: Exception | None = None
    try:
        await store.keep_time()
        now = store.steady()
        jobs = await store.forget(to_forget(await store.finished(), retention, now))
        binned = 0 if retention.bin_days is None else await store.empty_bin(now - retention.bin_days * DAY_S)
        uploads = 0 if retention.days is None else await store.forget_uploads(now - retention.days * DAY_S)
    except (SafelightError, OSError) as error:
        failed = error
    removed = [
        size
        for files in (folders.artifacts, folders.uploads)
        for size in await _remove_unnamed(store, files, files_before)
    ]
    await _remove_thumbnails(store, folders.thumbnails)
    checkpoints = await _remove_leftovers(store, folders.checkpoints)
    if failed is not None:
        raise failed
    return Tidied(jobs, binned, uploads, len(removed), sum(removed), checkpoints)


async def _remove_unnamed(store: Store, files: Files, before: float) -> list[int]:
    """Remove the files that no row names and that were put before then; their sizes."""
    old = await asyncio.to_thread(lambda: [sha256 for sha256, put_at in files if put_at < before])
    removed: list[int] = []
    for at in range(0, len(old), _AT_ONCE):
        some = old[at : at + _AT_ONCE]
        unnamed = set(some) - await store.named(some)
        removed += await asyncio.to_thread(_remove_all, files, unnamed, before)
    return removed


def _remove_all(files: Files, going: set[str], before: float) -> list[int]:
    sizes = [files.remove(sha256, before) for sha256 in going]
    return [size for size in sizes if size]


async def _remove_thumbnails(store: Store, root: Path) -> None:
    """Remove the thumbnails of files that no row names: they show what was removed."""
    there = await asyncio.to_thread(lambda: {path: path.name.partition("-")[0] for path in root.glob("*/*-*.webp")})
    shown = sorted(set(there.values()))
    named = set[str]()
    for at in range(0, len(shown), _AT_ONCE):
        named |= await store.named(shown[at : at + _AT_ONCE])
    for path in [path for path, sha256 in there.items() if sha256 not in named]:
        await asyncio.to_thread(path.unlink, missing_ok=True)


async def _remove_leftovers(store: Store, root: Path) -> int:
    """Remove the checkpoints of jobs that are over or unknown. A job is stored before it has any, so none is early."""
    there = await asyncio.to_thread(_folders_in, root)
    left = set(there) - await store.unfinished(there)
    for name in left:  # where a stale attempt still writes, the next round finishes it
        await asyncio.to_thread(shutil.rmtree, root / name, ignore_errors=True)
    return len(left)


def _folders_in(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []

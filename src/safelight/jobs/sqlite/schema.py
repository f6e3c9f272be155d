"""Opening a database: its pragmas, its check, its numbered migrations, and what to say where it cannot be used."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from safelight.errors import StoreUnusable
from safelight.jobs.search import searched_model, searched_words

APPLICATION_ID = 0x5AFE119
"""In the file's header (PRAGMA application_id): tells our databases from others."""

_WRITER_PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA fullfsync = ON;
PRAGMA foreign_keys = ON;
PRAGMA temp_store = MEMORY;
"""


@dataclass(frozen=True)
class Migration:
    """One numbered step of the schema; `script` is SQL without transaction statements."""

    number: int
    script: str


def shipped() -> list[Migration]:
    """The migrations that come with the program, in order: migrations/NNNN_name.sql."""
    folder = resources.files("safelight.jobs.sqlite") / "migrations"
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".sql")), key=lambda each: each.name)
    return [Migration(int(each.name[:4]), each.read_text(encoding="utf-8")) for each in files]


def connect(path: Path, busy_timeout_s: float, *, reading: bool = False) -> sqlite3.Connection:
    """A connection without implicit transactions. `reading`: it can write nothing."""
    connection = sqlite3.connect(
        path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.row_factory = sqlite3.Row
    for name, read in (("searched_words", searched_words), ("searched_model", searched_model)):
        connection.create_function(name, 1, _of_json(read), deterministic=True)
    if reading:
        connection.execute("PRAGMA query_only = ON")
    return connection


def _of_json(read: Callable[[dict[str, Any]], str]) -> Callable[[str], str]:
    return lambda text: read(json.loads(text))


def prepare(path: Path, busy_timeout_s: float, migrations: Sequence[Migration] | None = None) -> sqlite3.Connection:
    """The writing connection to a database that was checked and brought up to date; else StoreUnusable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = connect(path, busy_timeout_s)
    except (sqlite3.Error, OSError) as error:
        raise unusable(path, error) from error
    try:
        _check(connection, path)
        connection.executescript(_WRITER_PRAGMAS)
        migrate(connection, path, shipped() if migrations is None else migrations)
    except sqlite3.Error as error:
        connection.close()
        raise unusable(path, error) from error
    except StoreUnusable:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    """Carry out the migrations above the database's version, each whole or not at all, after a copy was made."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    newest = migrations[-1].number
    if version > newest:
        raise _newer(path, version, newest)
    missing = [each for each in migrations if each.number > version]
    if missing and version:
        copy_before(connection, path, version)
    for each in missing:
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{each.script}\n;PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {each.number}; COMMIT;"
            )
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def copy_before(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """A whole copy of the database beside it, named after its version; an older copy of that version is replaced."""
    copy = path.with_name(f"{path.name}.version-{version}")
    with closing(sqlite3.connect(copy)) as target:
        connection.backup(target)
    return copy


def unusable(path: Path, error: sqlite3.Error | OSError) -> StoreUnusable:
    """What the error means for whoever runs the server, and the way out."""
    said = str(error)
    copies = ", ".join(each.name for each in _copies(path))
    if "locked" in said or "busy" in said:
        hint = "Another program holds it. Stop that one (a second server, a database browser, a backup) and try again."
    elif "malformed" in said or "not a database" in said:
        hint = f"Move it away and start anew, or put a copy in its place{f' ({copies})' if copies else ''}; "
        hint += "`sqlite3 FILE .recover` saves what can be read."
    elif "full" in said:
        hint = "Free disk space and try again; nothing accepted is lost."
    elif isinstance(error, OSError) or "unable to open" in said or "readonly" in said:
        hint = "Make the file and its folder writable for this user, or choose another data folder."
    else:
        hint = "`safelight doctor` checks the data folder."
    return StoreUnusable(f"The job database {path} cannot be used: {said}.", hint)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """StoreUnusable where the file is somebody else's or damaged."""
    mine = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    if not mine and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise StoreUnusable(
            f"{path} is a database, but not one of Safelight's jobs.", "Choose another data folder, or move the file."
        )
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise unusable(path, sqlite3.DatabaseError(f"the file is malformed ({verdict})"))


def _newer(path: Path, version: int, newest: int) -> StoreUnusable:
    old = [each for each in _copies(path) if int(each.name.rpartition("-")[2]) <= newest]
    way = "Install the Safelight that wrote it, or start with another data folder."
    if old:
        way = "Install the Safelight that wrote it, or go back to the copy made before (without what came since): "
        way += f"mv {old[-1]} {path}"
    return StoreUnusable(
        f"The job database {path} has version {version}; this program knows versions up to {newest}.", way
    )


def _copies(path: Path) -> list[Path]:
    """Copies made before migrations, oldest version first."""
    found = [each for each in path.parent.glob(f"{path.name}.version-*") if each.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda each: int(each.name.rpartition("-")[2]))

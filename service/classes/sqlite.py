"""The class database as an SQLite file."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

import sqlalchemy as sa

from service.classes.backend import TIMEOUT, Backend
from service.classes.entities import UnusableError

__all__ = ["backend"]

_PROBE_BYTES: Final = 1 << 16
_MOVE: Final = "move it away, with its -wal and -shm, to begin anew"


def backend(url: sa.URL) -> Backend:
    """Return the backend for an SQLite file; nothing is opened yet."""
    path = Path(url.database or "").absolute()
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        creator=lambda: _connect(path),
        pool_size=4,
        max_overflow=60,
        pool_timeout=TIMEOUT,
        hide_parameters=True,
    )
    sa.event.listen(engine, "begin", _begin)
    return Backend(
        str(path), lambda: _check(path), lambda: _write_fault(path), engine, engine, engine
    )


def _check(path: Path) -> None:
    """Check that a file is a sound, writable database; create it if there is none."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        why = f"it cannot be made ({error.strerror}): its folder must be writable"
        raise UnusableError(f"{path}: {why}") from error
    try:
        with closing(_connect(path)) as connection:
            why = _defect(connection)
    except sqlite3.Error as error:
        why = _reason(error)
    if why:
        raise UnusableError(f"{path}: {why}")


def _write_fault(path: Path) -> str:
    """Write as much as a change may take, roll it back, and return why that failed."""
    try:
        with closing(_connect(path)) as connection:
            connection.execute("PRAGMA busy_timeout = 0")
            # Spills to the log at once: pages in memory alone would always fit.
            connection.execute("PRAGMA cache_size = 1")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE probe (data BLOB)")
            connection.execute("INSERT INTO probe VALUES (zeroblob(?))", [_PROBE_BYTES])
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        is_busy = _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
        return "" if is_busy else _reason(error)  # somebody else is writing
    return ""


def _begin(connection: sa.Connection) -> None:
    # A writer waits for the lock at the start: in the middle of a transaction it could only fail.
    lock = "lock" in connection.get_execution_options()
    connection.exec_driver_sql("BEGIN IMMEDIATE" if lock else "BEGIN")


def _connect(path: Path) -> sqlite3.Connection:
    """Open an existing file; only `_begin` begins transactions."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _defect(connection: sqlite3.Connection) -> str:
    """Return why a database must not be used; "" if it may."""
    result = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if result != "ok":
        why = " ".join(result.split())[:300]
        return f"it is damaged ({why}): restore a backup, or {_MOVE}"
    if (mode := _enable_wal(connection)) != "wal":
        return f"no write-ahead log is possible here (only {mode!r}): use a local disk"
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("PRAGMA user_version = 1")  # BEGIN alone succeeds on a read-only file
    connection.execute("ROLLBACK")
    return ""


def _enable_wal(connection: sqlite3.Connection) -> str:
    """Switch to a write-ahead log and return the journal mode."""
    deadline = time.monotonic() + TIMEOUT
    while True:  # SQLite's own timeout does not hold for this statement
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _reason(error: sqlite3.Error) -> str:
    match _code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"another program has had it locked for {TIMEOUT:.0f} s: end that one"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return f"it is damaged ({error}): restore a backup, or {_MOVE}"
        case sqlite3.SQLITE_FULL:
            return f"it cannot be written ({error}): make room on its disk"
        case sqlite3.SQLITE_IOERR:
            return f"it cannot be written ({error}): its disk is full, or fails"
        case _:
            return f"it cannot be written ({error}): it and its folder must be writable"


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF

"""The SQLite file: where it is, who may open it, its tables, and how connections to it are set up.

`log` has one row a write, in revision order: appending to it touches only its last page. `current` maps each
live key to its row in the log. There is no index of old rows: what a key was at a revision follows from the
first write after it, whose `previous` names the row that it replaced.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiphys.store.types import Unavailable

APPLICATION = 0x54495048
"""SQLite's application_id of our files: 'TIPH'."""
SCHEMA = 1
"""Version of the tables below (user_version)."""

TABLES = """
CREATE TABLE log (
    revision INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    created INTEGER NOT NULL,
    previous INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    actor TEXT NOT NULL,
    cause TEXT NOT NULL,
    value BLOB NOT NULL
);
CREATE TABLE current (key TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE mark (name TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO mark VALUES ('compacted', 0), ('swept', 0);
"""

PAGE = 8192
"""Bytes of a page: a typical object is 1 to 5 KB, pages of 4 KB would stay half empty."""
CHECKPOINT = 2000
"""Pages of the write-ahead log after which a commit moves them into the file: 16 MB."""


@contextmanager
def medium_errors(path: Path) -> Iterator[None]:
    """SQLite's own errors (disk full, I/O error, file gone), and want of memory, as Unavailable."""
    try:
        yield
    except (sqlite3.Error, MemoryError) as error:
        advice = "; restore it from a backup, or move it away to start anew" if _is_corrupt(error) else ""
        raise Unavailable(f"store {path}: {error}{advice}") from error


def _is_corrupt(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class DatabaseFile:
    """An open store file, locked for this process until `close`. Raises Unavailable when it cannot be had."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path)
        except OSError as error:
            raise Unavailable(f"store {path}: {error}") from error
        try:
            self._prepare()
        except BaseException:
            os.close(self._lock)
            raise

    def _prepare(self) -> None:
        # SQLite gives the -wal and -shm files the mode of the file itself.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with medium_errors(self.path):
            self.writer = self.connect()
            try:
                self._check_schema()
            except BaseException:
                self.writer.close()
                raise

    def connect(self) -> sqlite3.Connection:
        """A connection without implicit transactions; each is used by one thread at a time."""
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def size(self) -> int:
        """Bytes of the file and its write-ahead log."""
        total = 0
        for suffix in ("", "-wal"):
            try:
                total += os.stat(f"{self.path}{suffix}").st_size
            except FileNotFoundError:
                continue
        return total

    def close(self) -> None:
        """Close the writer's connection and let others open the file."""
        self.writer.close()
        os.close(self._lock)

    def _check_schema(self) -> None:
        application = self.writer.execute("PRAGMA application_id").fetchone()[0]
        version = self.writer.execute("PRAGMA user_version").fetchone()[0]
        if application == 0 and version == 0 and not self.writer.execute("SELECT 1 FROM sqlite_schema").fetchone():
            self._create()
        elif application != APPLICATION:
            raise Unavailable(f"store {self.path}: it is an SQLite file, but not a store of Tiphys")
        elif version > SCHEMA:
            raise Unavailable(
                f"store {self.path}: its schema is version {version}, this Tiphys knows up to {SCHEMA}; "
                "use the version of Tiphys that wrote it, or a later one"
            )
        self.writer.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT}")

    def _create(self) -> None:
        self.writer.execute(f"PRAGMA page_size={PAGE}")
        self.writer.execute("PRAGMA journal_mode=WAL")
        self.writer.executescript(
            f"BEGIN IMMEDIATE;{TABLES}PRAGMA application_id={APPLICATION};PRAGMA user_version={SCHEMA};COMMIT;"
        )


def _lock(path: Path) -> int:
    """Lock `path` for this process; the kernel lets go when the process ends, however it ends."""
    # A file of its own: closing any descriptor of the database would drop the locks that SQLite has on it.
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Unavailable(f"store {path}: another process has it open") from error
    return descriptor

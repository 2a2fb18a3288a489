"""Reads of the SQLite store: each in one read transaction, so that all of its rows are of one revision.

They run in a few threads with a connection each, and never wait for the writer (WAL).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tiphys.store.sqlite_file import DatabaseFile, medium_errors
from tiphys.store.types import Compacted, Event, FutureRevision, Page, Row, Unavailable
from tiphys.store.writes import successor

T = TypeVar("T")
THREADS = 3
CATCHUP = 500
"""Events that a watch reads from the log at a time."""

LIVE = """
SELECT c.key, l.value, l.revision, l.created, l.actor, l.cause
FROM current c JOIN log l ON l.revision = c.revision
WHERE c.key >= :low AND c.key < :high AND c.revision <= :revision
"""
REPLACED = """
SELECT p.key, p.value, p.revision, p.created, p.actor, p.cause
FROM log l JOIN log p ON p.revision = l.previous
WHERE l.revision > :revision AND l.previous BETWEEN 1 AND :revision
  AND l.key >= :low AND l.key < :high
"""
"""Rows that were current at :revision and no longer are: those that the first write after it replaced."""
BOTH = f"SELECT * FROM ({LIVE} UNION ALL {REPLACED})"  # noqa: S608 - constants
EVENTS = """
SELECT l.deleted, l.key, l.value, l.revision, l.created, l.actor, l.cause,
       p.key, p.value, p.revision, p.created, p.actor, p.cause
FROM log l LEFT JOIN log p ON p.revision = l.previous
WHERE l.revision > :after AND l.revision <= :upto AND l.key >= :low AND l.key < :high
ORDER BY l.revision LIMIT :limit
"""


class Readers:
    """A pool of reading connections."""

    def __init__(self, file: DatabaseFile) -> None:
        self._file = file
        self._idle: list[sqlite3.Connection] = []
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="store-read")

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """`query` in a read transaction of its own, off the event loop."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._transaction, query)
        except RuntimeError as error:  # the executor was shut down
            raise Unavailable("the store is closed") from error

    def _transaction(self, query: Callable[[sqlite3.Connection], T]) -> T:
        with medium_errors(self._file.path):
            connection = self._idle.pop() if self._idle else self._file.connect()
            try:
                connection.execute("BEGIN")
                return query(connection)
            finally:
                connection.rollback()
                self._idle.append(connection)

    def close(self) -> None:
        """Wait for running reads, then close all connections."""
        self._pool.shutdown()
        while self._idle:
            self._idle.pop().close()


def bounds(connection: sqlite3.Connection) -> tuple[int, int]:
    """The last revision and the compacted one."""
    # Compaction may have removed the last row of the log (a deletion), but nothing after its own mark.
    last, compacted = connection.execute(
        "SELECT (SELECT coalesce(max(revision), 0) FROM log), (SELECT revision FROM mark WHERE name = 'compacted')"
    ).fetchone()
    return max(last, compacted), compacted


def get(connection: sqlite3.Connection, key: str, revision: int) -> Row | None:
    revision, newest = _check(connection, revision)
    arguments = {"low": key, "high": _after(key), "revision": revision}
    found = connection.execute(LIVE, arguments).fetchone()
    if found is None and revision < newest:
        found = connection.execute(REPLACED, arguments).fetchone()
    return Row(*found) if found is not None else None


def list_rows(connection: sqlite3.Connection, prefix: str, revision: int, after: str, limit: int) -> Page:
    revision, newest = _check(connection, revision)
    select = LIVE if revision == newest else BOTH
    arguments = {"low": _after(after, prefix), "high": _end(prefix), "revision": revision, "limit": limit or -1}
    rows = tuple(Row(*found) for found in connection.execute(f"{select} ORDER BY 1 LIMIT :limit", arguments))
    remaining = 0
    if limit and len(rows) == limit:
        arguments["low"] = _after(rows[-1].key, prefix)
        remaining = connection.execute(f"SELECT count(*) FROM ({select})", arguments).fetchone()[0]  # noqa: S608 - constants
    return Page(rows, revision, remaining)


def read_log(connection: sqlite3.Connection, prefix: str, after: int, upto: int) -> tuple[tuple[Event, ...], int]:
    """The next events under `prefix` in (after, upto], and up to which revision that reads the log."""
    _, compacted = bounds(connection)
    if after < compacted:
        raise Compacted(after, compacted)
    arguments = {"after": after, "upto": upto, "low": prefix, "high": _end(prefix), "limit": CATCHUP}
    events = tuple(_event(found) for found in connection.execute(EVENTS, arguments))
    return events, events[-1].row.revision if len(events) == CATCHUP else upto


def _event(found: tuple[int, str, bytes, int, int, str, str, str | None, bytes, int, int, str, str]) -> Event:
    previous = Row(found[7], *found[8:]) if found[7] is not None else None
    return Event(Row(*found[1:7]), previous, bool(found[0]))


def _after(key: str, prefix: str = "") -> str:
    """The first text after `key` (keys hold no NUL) that may start with `prefix`."""
    return max(key + "\0", prefix)


def _end(prefix: str) -> str | bytes:
    """The first value after all keys that start with `prefix`; SQLite sorts any BLOB after any TEXT."""
    return successor(prefix) or b""


def _check(connection: sqlite3.Connection, revision: int) -> tuple[int, int]:
    """The revision to read at (the newest for 0) and the newest one. Raises Compacted, FutureRevision."""
    newest, compacted = bounds(connection)
    if revision > newest:
        raise FutureRevision(revision, newest)
    if revision and revision < compacted:
        raise Compacted(revision, compacted)
    return revision or newest, newest

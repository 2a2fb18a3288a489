"""The store on disk: SQLite in WAL mode with synchronous=FULL. What was acknowledged survives kill -9.

Writes go through one thread (`sqlite_writer`), reads through a few others (`sqlite_reader`), watches through
the feed in the event loop (`feed`). One process at a time may have a file open.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tiphys.store.feed import BUFFER, Feed
from tiphys.store.sqlite_file import DatabaseFile, medium_errors
from tiphys.store.sqlite_reader import Readers, bounds, get, list_rows, read_log
from tiphys.store.sqlite_writer import Writer
from tiphys.store.types import Event, FutureRevision, Page, Row, Unavailable, Watch
from tiphys.store.writes import Write

SWEEP = 1000
"""Revisions whose superseded rows one transaction of a compaction removes."""


class SqliteStore:
    """`Store` in one SQLite file. Use it from one event loop."""

    shared = False

    def __init__(self, file: DatabaseFile, *, buffer: int = BUFFER) -> None:
        try:
            with medium_errors(file.path):
                last, compacted = bounds(file.writer)
        except Unavailable:
            file.close()
            raise
        self._file = file
        self._readers = Readers(file)
        self._feed = Feed(last, compacted, self._read_log, buffer)
        self._writer = Writer(file, self._feed)
        self._closed = False

    @classmethod
    def open(cls, path: Path | str, *, buffer: int = BUFFER) -> SqliteStore:
        """Open or create the file (mode 0600). `buffer`: events that may wait for one watch.

        Raises Unavailable: another process has it open, its schema is newer, or it is no store.
        """
        return cls(DatabaseFile(Path(path)), buffer=buffer)

    async def revision(self) -> int:
        return self._feed.published

    async def get(self, key: str, revision: int = 0) -> Row | None:
        return await self._readers.run(lambda connection: get(connection, key, revision))

    async def list(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        return await self._readers.run(lambda connection: list_rows(connection, prefix, revision, after, limit))

    async def put(self, key: str, value: bytes, *, expect: int | None = None, actor: str = "", cause: str = "") -> Row:
        row = await self._writer.submit(Write(key, value, expect, actor, cause))
        assert row is not None
        return row

    async def delete(self, key: str, *, expect: int | None = None, actor: str = "", cause: str = "") -> Row | None:
        return await self._writer.submit(Write(key, None, expect, actor, cause))

    def watch(self, prefix: str, after: int) -> Watch:
        return self._feed.watch(prefix, after)

    async def compact(self, revision: int) -> None:
        """As in `Store`; the space is used again for later writes. A compaction that was cut short by the end of
        the process is finished by the next one."""
        if revision > self._feed.published:
            raise FutureRevision(revision, self._feed.published)
        self._feed.compacted = await self._writer.run(lambda connection: _mark_compacted(connection, revision))
        while await self._writer.run(_sweep):
            pass

    async def size(self) -> int:
        return self._file.size()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._writer.close()
        self._feed.close()
        self._readers.close()
        self._file.close()

    async def _read_log(self, prefix: str, after: int, upto: int) -> tuple[tuple[Event, ...], int]:
        return await self._readers.run(lambda connection: read_log(connection, prefix, after, upto))


def _mark_compacted(connection: sqlite3.Connection, revision: int) -> int:
    """From here on nothing before `revision` can be read; returns the mark, which never goes back."""
    connection.execute("UPDATE mark SET revision = max(revision, ?) WHERE name = 'compacted'", (revision,))
    return int(connection.execute("SELECT revision FROM mark WHERE name = 'compacted'").fetchone()[0])


def _sweep(connection: sqlite3.Connection) -> int:
    """Remove some rows that no revision from the compacted one on can see; returns how many revisions are left."""
    compacted, swept = (row[0] for row in connection.execute("SELECT revision FROM mark ORDER BY name"))
    upto = min(swept + SWEEP, compacted)
    span = (swept, upto)
    connection.execute(
        "DELETE FROM log WHERE revision IN (SELECT previous FROM log WHERE revision > ? AND revision <= ?)", span
    )
    connection.execute("DELETE FROM log WHERE revision > ? AND revision <= ? AND deleted", span)
    connection.execute("UPDATE mark SET revision = ? WHERE name = 'swept'", (upto,))
    return int(compacted - upto)

"""The writer thread of the SQLite store: group commit.

All writes that came in while a commit was running go into the next transaction. Each is compared and swapped
by itself, in order, so a Mismatch fails only its own write; the disk is told to keep them (fsync) once. A
batch takes the same few SQL statements whatever its size: each statement gives up the interpreter's lock and
has to win it back from a busy event loop.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from queue import Empty, SimpleQueue

from tiphys.store.feed import Feed
from tiphys.store.sqlite_file import DatabaseFile, medium_errors
from tiphys.store.types import Event, Mismatch, Row, Unavailable
from tiphys.store.writes import Outcome, Write, apply, check, settle

BATCH = 256
"""Writes in one transaction at most."""
BATCH_BYTES = 8 << 20
"""Bytes of values after which a batch takes no more."""

ROWS = """
SELECT json_group_array(json_array(c.key, hex(l.value), l.revision, l.created, l.actor, l.cause))
FROM json_each(?) k JOIN current c ON c.key = k.value JOIN log l ON l.revision = c.revision
"""
"""The current rows of many keys in one step; hex because values are any bytes."""

Job = Callable[[sqlite3.Connection], int]


class _Task:
    """A job other than a write, in a transaction of its own."""

    def __init__(self, job: Job, future: asyncio.Future[int]) -> None:
        self.job, self.future = job, future

    def settle(self, outcome: int | Unavailable) -> None:
        if self.future.done():
            return
        if isinstance(outcome, Unavailable):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class _Stop:
    """The last item."""


_Item = Write | _Task | _Stop


class Writer:
    """Owns the writing connection; `submit` is called in the event loop, the rest runs in the thread."""

    def __init__(self, file: DatabaseFile, feed: Feed) -> None:
        self._file, self._feed = file, feed
        self._connection = file.writer
        self._revision = feed.published
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store-write", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> asyncio.Future[Row | None]:
        """Queue a write. The future resolves when it is on disk. Raises Unavailable after close, ValueError."""
        write.future = asyncio.get_running_loop().create_future()
        self._put(check(write))
        return write.future

    def run(self, job: Job) -> asyncio.Future[int]:
        """Queue `job` for a transaction of its own; the future is its result."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._put(_Task(job, future))
        return future

    async def close(self) -> None:
        """Commit what was accepted, then end the thread."""
        self._closed = True
        self._queue.put(_Stop())
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _put(self, item: _Item) -> None:
        if self._closed:
            raise Unavailable(f"store {self._file.path}: it is closed")
        self._queue.put(item)

    def _run(self) -> None:
        while True:
            item: _Item | None = self._queue.get()
            if isinstance(item, Write):
                batch, item = self._take(item)
                self._write(batch)
            if isinstance(item, _Task):
                self._do(item)
            elif item is not None:
                return

    def _take(self, first: Write) -> tuple[list[Write], _Task | _Stop | None]:
        """The writes that wait, up to a batch, and the other item that ended it, if any."""
        batch, size = [first], len(first.value or b"")
        while len(batch) < BATCH and size < BATCH_BYTES:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if not isinstance(item, Write):
                return batch, item
            batch.append(item)
            size += len(item.value or b"")
        return batch, None

    def _do(self, task: _Task) -> None:
        outcome: int | Unavailable
        try:
            with medium_errors(self._file.path), transaction(self._connection):
                outcome = task.job(self._connection)
        except Unavailable as error:
            outcome = error
        self._tell(task.future, lambda: task.settle(outcome))

    def _write(self, batch: list[Write]) -> None:
        try:
            with medium_errors(self._file.path), transaction(self._connection):
                outcomes = self._decide(batch)
        except Unavailable as error:
            outcomes = [error] * len(batch)
        events = tuple(outcome for outcome in outcomes if isinstance(outcome, Event))
        self._revision += len(events)
        first = batch[0].future
        assert first is not None
        self._tell(first, lambda: self._finish(batch, outcomes, events))

    def _finish(self, batch: list[Write], outcomes: list[Outcome], events: tuple[Event, ...]) -> None:
        self._feed.publish(events)
        settle(batch, outcomes)

    def _tell(self, future: asyncio.Future[int] | asyncio.Future[Row | None], callback: Callable[[], object]) -> None:
        try:
            future.get_loop().call_soon_threadsafe(callback)
        except RuntimeError:  # the loop has been closed: nobody waits any more
            return

    def _decide(self, batch: list[Write]) -> list[Outcome]:
        """Compare and swap each write in order, then store all that passed."""
        rows: dict[str, Row | None] = dict(self._current(batch))
        outcomes: list[Outcome] = []
        events: list[Event] = []
        for write in batch:
            try:
                event = apply(write, rows.get(write.key), self._revision + len(events) + 1)
            except Mismatch as mismatch:
                outcomes.append(mismatch)
                continue
            outcomes.append(event)
            if event is not None:
                events.append(event)
                rows[write.key] = None if event.deleted else event.row
        self._store(events, rows)
        return outcomes

    def _current(self, batch: list[Write]) -> Iterator[tuple[str, Row]]:
        keys = json.dumps(list({write.key for write in batch}), ensure_ascii=False)
        found = json.loads(self._connection.execute(ROWS, (keys,)).fetchone()[0])
        for key, value, *rest in found:
            yield key, Row(key, bytes.fromhex(value), *rest)

    def _store(self, events: Sequence[Event], rows: dict[str, Row | None]) -> None:
        logged = [_log_row(event) for event in events]
        written = {e.row.key: rows[e.row.key] for e in events}
        live = [(key, row.revision) for key, row in written.items() if row is not None]
        insert(self._connection, "log", logged)
        insert(self._connection, "current", live)
        if len(live) < len(written):
            gone = json.dumps([key for key, row in written.items() if row is None], ensure_ascii=False)
            self._connection.execute("DELETE FROM current WHERE key IN (SELECT value FROM json_each(?))", (gone,))


def _log_row(event: Event) -> tuple[object, ...]:
    row, previous = event.row, event.previous.revision if event.previous is not None else 0
    return (row.revision, row.key, row.created, previous, event.deleted, row.actor, row.cause, row.value)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit at the end, roll back on an error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()  # does nothing when SQLite has done it already
        raise


def insert(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert or replace `rows` by few statements: 64 rows, 32, 16 ... so that all of them are found prepared."""
    start, step = 0, 64
    while start < len(rows):
        while step > len(rows) - start:
            step //= 2
        piece = rows[start : start + step]
        marks = ",".join(["(" + ",".join("?" * len(piece[0])) + ")"] * step)
        connection.execute(f"INSERT OR REPLACE INTO {table} VALUES {marks}", list(chain.from_iterable(piece)))  # noqa: S608 - constants
        start += step

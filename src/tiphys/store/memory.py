"""The store in memory: for tests and throw-away clusters. Nothing survives the process."""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice

from tiphys.store.feed import BUFFER, Feed
from tiphys.store.types import Compacted, Event, FutureRevision, Page, Row, Unavailable, Watch
from tiphys.store.writes import Write, apply, check, result

CATCHUP = 1000
"""Events that a watch reads from the log at a time."""


class MemoryStore:
    """`Store` over a dict of current rows and a list of events."""

    shared = False

    def __init__(self, *, buffer: int = BUFFER) -> None:
        self._rows: dict[str, Row] = {}
        self._log: list[Event] = []
        self._feed = Feed(0, 0, self._read_log, buffer)

    async def revision(self) -> int:
        return self._feed.published

    async def get(self, key: str, revision: int = 0) -> Row | None:
        self._check_open()
        return self._as_of(self._check_revision(revision)).get(key)

    async def list(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        self._check_open()
        revision = self._check_revision(revision)
        rows = self._as_of(revision)
        keys = sorted(key for key in rows if key > after and key.startswith(prefix))
        shown = keys[:limit] if limit else keys
        return Page(tuple(rows[key] for key in shown), revision, len(keys) - len(shown))

    async def put(self, key: str, value: bytes, *, expect: int | None = None, actor: str = "", cause: str = "") -> Row:
        row = self._write(Write(key, value, expect, actor, cause))
        assert row is not None
        return row

    async def delete(self, key: str, *, expect: int | None = None, actor: str = "", cause: str = "") -> Row | None:
        return self._write(Write(key, None, expect, actor, cause))

    def watch(self, prefix: str, after: int) -> Watch:
        return self._feed.watch(prefix, after)

    async def compact(self, revision: int) -> None:
        self._check_open()
        if revision > self._feed.published:
            raise FutureRevision(revision, self._feed.published)
        if revision > self._feed.compacted:
            self._feed.compacted = revision
            del self._log[: self._position(revision)]

    async def size(self) -> int:
        return sum(len(row.key) + len(row.value) for row in self._rows.values())

    async def close(self) -> None:
        self._feed.close()

    def _write(self, write: Write) -> Row | None:
        self._check_open()
        event = apply(check(write), self._rows.get(write.key), self._feed.published + 1)
        if event is not None:
            if event.deleted:
                del self._rows[write.key]
            else:
                self._rows[write.key] = event.row
            self._log.append(event)
            self._feed.publish((event,))
        return result(event)

    def _as_of(self, revision: int) -> dict[str, Row]:
        """All rows at `revision`: those of now, without what came later, with what that replaced."""
        if revision == self._feed.published:
            return self._rows
        rows = {key: row for key, row in self._rows.items() if row.revision <= revision}
        for event in islice(self._log, self._position(revision), None):
            if event.previous is not None and event.previous.revision <= revision:
                rows[event.row.key] = event.previous
        return rows

    def _position(self, revision: int) -> int:
        """Index of the first event after `revision`."""
        return bisect_right(self._log, revision, key=lambda event: event.row.revision)

    async def _read_log(self, prefix: str, after: int, upto: int) -> tuple[tuple[Event, ...], int]:
        if after < self._feed.compacted:
            raise Compacted(after, self._feed.compacted)
        start = self._position(after)
        piece = self._log[start : start + CATCHUP]
        return tuple(e for e in piece if e.row.key.startswith(prefix)), piece[-1].row.revision if piece else upto

    def _check_revision(self, revision: int) -> int:
        """`revision`, or the current one for 0."""
        if revision > self._feed.published:
            raise FutureRevision(revision, self._feed.published)
        if revision and revision < self._feed.compacted:
            raise Compacted(revision, self._feed.compacted)
        return revision or self._feed.published

    def _check_open(self) -> None:
        if self._feed.closed:
            raise Unavailable("the store is closed")

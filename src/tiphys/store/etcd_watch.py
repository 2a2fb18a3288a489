"""Watches on etcd: every write after a revision, in order, exactly once, over any loss of the connection.

etcd keeps what a slow reader has not taken yet in its own log, so nothing is buffered here: a reader is cut only when
the log was compacted meanwhile. After a loss of the connection a watch goes on after the last revision that it has
delivered, on another server if need be.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from tiphys.base.clock import SystemClock
from tiphys.store.etcd_connection import Stream
from tiphys.store.etcd_messages import PROGRESS_REQUEST, WATCH, Change, WatchAnswer, read_watch, watch_request
from tiphys.store.types import Compacted, Event, Row, Unavailable

if TYPE_CHECKING:
    from tiphys.store.etcd import EtcdStore

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0
"""Seconds between attempts to reach etcd again."""
END_SECONDS = 2.0
"""How long closing the store waits for a watch to deliver what was written before."""


class EtcdWatch:
    """One watch: the context manager and the iterator of `Store.watch`. One task at a time may iterate."""

    def __init__(self, store: EtcdStore, prefix: str, after: int) -> None:
        self._store, self._prefix = store, prefix
        self.revision = after
        """Everything up to it has been delivered."""
        self._stream: Stream | None = None
        self._reading = False
        self._ended = asyncio.Event()

    async def __aenter__(self) -> EtcdWatch:
        if self._store.closed:
            raise Unavailable("the store is closed")
        self._store.watches.add(self)
        try:
            await self._reconnect()
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def __aiter__(self) -> EtcdWatch:
        return self

    async def __anext__(self) -> tuple[Event, ...]:
        self._reading = True
        try:
            while not (self._store.closed and self.revision >= self._store.written):
                events = self._deliver(await self._next())
                if events:
                    return events
        finally:
            self._reading = False
        self._ended.set()
        raise StopAsyncIteration

    async def end(self) -> None:
        """Let the reader, if there is one, have what was written before the store was closed."""
        if not self._reading or self._stream is None:
            return
        with contextlib.suppress(TimeoutError, asyncio.InvalidStateError):
            async with asyncio.timeout(END_SECONDS):
                # Any answer wakes the reader, which then sees that the store is closed.
                await self._stream.write(PROGRESS_REQUEST)
                await self._ended.wait()

    def _leave(self) -> None:
        self._store.watches.discard(self)
        self._ended.set()
        if self._stream is not None:
            self._stream.cancel()

    async def _next(self) -> WatchAnswer:
        """What etcd says next, on whatever connection."""
        while True:
            problem = "the connection was lost"
            try:
                answer = await self._receive()
            except Exception as error:
                problem = self._store.connection.lost(error) or ""
                if not problem:
                    raise
            else:
                if answer is not None:
                    return answer
            if self._store.closed:
                raise StopAsyncIteration
            log.warning("%s: %s; watching on from revision %d", self._store.connection.name, problem, self.revision)
            self._store.connection.next_server()
            await self._persist()

    async def _receive(self) -> WatchAnswer | None:
        """The next message; None when the other side has ended the stream."""
        assert self._stream is not None
        message = await self._stream.read()
        if self._store.connection.ended(message):
            return None
        answer = read_watch(message)
        if answer.compacted:
            raise Compacted(self.revision, answer.compacted)
        return None if answer.canceled else answer

    async def _persist(self) -> None:
        """Reconnect, however long it takes."""
        wait = FIRST_WAIT
        while True:
            try:
                await self._reconnect()
            except Unavailable:
                if self._store.closed:
                    raise StopAsyncIteration from None
                await SystemClock().sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                return

    async def _reconnect(self) -> None:
        """A stream of what comes after `revision`. Raises Compacted, Unavailable."""
        store = self._store
        if self._stream is not None:
            self._stream.cancel()
        self._stream = await store.connection.stream(WATCH)
        first, last = store.layout.all
        try:
            await self._stream.write(watch_request(first, last, self.revision + 1))
            created = await self._receive()
        except Exception as error:
            problem = store.connection.lost(error)
            if problem is None:
                raise
            store.connection.next_server()
            raise Unavailable(f"{store.connection.name}: {problem}") from error
        if created is None:
            raise Unavailable(f"{store.connection.name}: the watch was refused")
        # etcd tells later, if at all, that a deletion at the very revision of a compaction is gone.
        await store.check_kept(self.revision)

    def _deliver(self, answer: WatchAnswer) -> tuple[Event, ...]:
        layout, after = self._store.layout, self.revision
        heads = {one.row.modified: one for one in answer.changes if one.row.key == layout.head}
        if answer.changes:
            self.revision = max(after, answer.changes[-1].row.modified)
        return tuple(self._events(answer.changes, heads, lambda key: key.startswith(self._prefix), after))

    def _events(
        self, changes: list[Change], heads: dict[int, Change], wanted: Callable[[str], bool], after: int
    ) -> Iterator[Event]:
        layout = self._store.layout
        for change in changes:
            row = change.row
            if row.key == layout.head or row.modified <= after or not wanted(layout.key(row)):
                continue
            previous = layout.row(change.previous) if change.previous is not None else None
            if not change.deleted:
                yield Event(layout.row(row), previous)
                continue
            head = heads.get(row.modified)
            actor, cause, _ = layout.open(head.row) if head is not None else ("", "", b"")
            created = previous.created if previous is not None else row.modified
            yield Event(Row(layout.key(row), b"", row.modified, created, actor, cause), previous, deleted=True)

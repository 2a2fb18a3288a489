"""The live feed: hands each committed batch to the watches in this process, and joins them to the log.

A watch first reads the log up to what has been published, piece by piece, then subscribes in the same step of
the event loop: no gap, no duplicate, and nothing is buffered for it before that. From then on batches wait in
its bounded buffer; a watch whose reader falls further behind is cut. Nobody polls: a watch sleeps on a future.
Runs in the event loop's thread only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType

from tiphys.store.types import Compacted, Event

Catchup = Callable[[str, int, int], Awaitable[tuple[tuple[Event, ...], int]]]
"""(prefix, after, upto) -> some events in that range and the revision up to which it is now read.
Raises Compacted when `after` lies before the compaction."""

BUFFER = 10_000
"""Events that may wait for one watch. They are shared between watches, so an idle watch costs nothing."""


class Feed:
    """All watches of one store. `published` is the last revision handed to them."""

    def __init__(self, published: int, compacted: int, catchup: Catchup, buffer: int = BUFFER) -> None:
        self.published = published
        self.compacted = compacted
        self.buffer = buffer
        self.closed = False
        self._catchup = catchup
        self._watches: dict[LogWatch, None] = {}

    def publish(self, events: tuple[Event, ...]) -> None:
        """Hand over one committed batch, in revision order."""
        if not events:
            return
        self.published = events[-1].row.revision
        for watch in tuple(self._watches):
            watch.offer(events)

    def watch(self, prefix: str, after: int) -> LogWatch:
        return LogWatch(self, prefix, after)

    def close(self) -> None:
        """End every watch once it has delivered what it holds."""
        self.closed = True
        for watch in tuple(self._watches):
            watch.wake()

    async def read(self, prefix: str, after: int) -> tuple[tuple[Event, ...], int]:
        """Some of the events that were published after `after`; see `Catchup`."""
        return await self._catchup(prefix, after, self.published)

    def subscribe(self, watch: LogWatch) -> None:
        self._watches[watch] = None

    def unsubscribe(self, watch: LogWatch) -> None:
        self._watches.pop(watch, None)


class LogWatch:
    """One watch: the context manager and the iterator of `Store.watch`. One task at a time may iterate."""

    def __init__(self, feed: Feed, prefix: str, after: int) -> None:
        self._feed = feed
        self._prefix = prefix
        self._position = after
        self._buffer: deque[tuple[Event, ...]] = deque()
        self._held = 0
        self._live = False
        self._cut = False
        self._waiter: asyncio.Future[None] | None = None

    async def __aenter__(self) -> AsyncIterator[tuple[Event, ...]]:
        if self._position < self._feed.compacted:
            raise Compacted(self._position, self._feed.compacted)
        self._join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._feed.unsubscribe(self)
        self._live = False
        self._buffer.clear()

    def __aiter__(self) -> LogWatch:
        return self

    async def __anext__(self) -> tuple[Event, ...]:
        while not self._live:
            events, self._position = await self._feed.read(self._prefix, self._position)
            self._join()
            if events:
                return events
        while not self._buffer:
            if self._cut:
                raise Compacted(self._position, self._feed.published)
            if self._feed.closed:
                raise StopAsyncIteration
            await self._wait()
        events = self._buffer.popleft()
        self._held -= len(events)
        self._position = events[-1].row.revision
        return events

    def offer(self, events: tuple[Event, ...]) -> None:
        """Take what concerns this watch from a batch; too much of it cuts the watch."""
        prefix, after = self._prefix, self._position
        if prefix or events[0].row.revision <= after:
            events = tuple(e for e in events if e.row.revision > after and e.row.key.startswith(prefix))
            if not events:
                return
        self._buffer.append(events)
        self._held += len(events)
        if self._held > self._feed.buffer:
            self._cut = True
            self._buffer.clear()
            self._feed.unsubscribe(self)
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _join(self) -> None:
        # No await between the test and subscribing: nothing can be published in between.
        if self._position >= self._feed.published:
            self._live = True
            self._feed.subscribe(self)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

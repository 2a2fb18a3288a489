"""WATCH: a stream of events from the cache, for HTTP, WebSocket and local clients alike.

A watch starts after a revision (from the cache's recent history, else from the store's log, else 410), or with the
current objects as ADDED events, with `sendInitialEvents` followed by a bookmark that says so (KEP-3157). Bookmarks
go out once a minute to those who allow them. All due events of a watch are sent in one write.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.forms import Form
from tiphys.apiserver.resource import Resource
from tiphys.apiserver.timers import Timer, Timers
from tiphys.apiserver.watcher import Item, Match, Watcher, transition
from tiphys.base.errors import ApiError, Gone
from tiphys.store.types import Compacted

BOOKMARK_SECONDS = 60.0
BEFORE_END = 2.0
"""A watch of less than a minute gets its bookmark this many seconds before its end, as upstream."""
LONGEST_SECONDS = 1800
"""Watches without timeoutSeconds end after once to twice this long, as upstream's --min-request-timeout."""
INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}
AT_ONCE_BYTES = 1 << 20
"""Bytes of events that are joined into one write."""
AT_ONCE = 500
"""Initial events rendered in one go; then the stream is given a chance to send them."""


@dataclass(slots=True)
class Start:
    """Where a watch begins: what to show first, and what the watcher does not cover yet."""

    watcher: Watcher
    initial: Sequence[Entry] = ()
    mark: bool = False
    """Whether a bookmark closes the initial events."""
    resumed: bool = False
    """Whether older changes must be read from the store's log first; the watcher is not subscribed yet."""
    failure: ApiError | None = None
    """Why there is nothing to watch; clients are told in the stream, as upstream does."""
    match: Match | None = None
    """What of all this is selected, where that can only be told of converted objects."""


class Bookmarks:
    """Sends every watch that wants them a bookmark a minute. Without such watches there is no timer."""

    def __init__(self, timers: Timers, caches: Caches) -> None:
        self._timers, self._caches = timers, caches
        self._watchers: dict[Watcher, None] = {}
        self._armed = False

    def add(self, watcher: Watcher) -> None:
        self._watchers[watcher] = None
        if not self._armed:
            self._armed = True
            self._timers.after(BOOKMARK_SECONDS, self._send)

    def discard(self, watcher: Watcher) -> None:
        self._watchers.pop(watcher, None)

    def send(self, watcher: Watcher) -> None:
        """Tell one watch how far it has come."""
        watcher.bookmark(self._caches.current)

    def _send(self) -> None:
        self._armed = bool(self._watchers)
        for watcher in self._watchers:
            self.send(watcher)
        if self._armed:
            self._timers.after(BOOKMARK_SECONDS, self._send)


class Watches:
    """Opens watches on the caches."""

    def __init__(self, caches: Caches, timers: Timers) -> None:
        self._caches, self._timers = caches, timers
        self._bookmarks = Bookmarks(timers, caches)
        self._random = random.Random()  # noqa: S311 - spreads the ends of watches, nothing secret

    def from_now(self, cache: ResourceCache, watcher: Watcher, initial: Sequence[Entry], *, mark: bool) -> Start:
        """Show `initial`, which was read in this step of the event loop, and what comes after it."""
        watcher.after = self._caches.current
        cache.subscribe(watcher)
        return Start(watcher, initial, mark)

    def after(self, cache: ResourceCache, watcher: Watcher, revision: int) -> Start:
        """Everything after `revision`."""
        watcher.after = revision
        if revision >= cache.floor:
            for change in cache.history(revision):
                watcher.offer(change)
            cache.subscribe(watcher)
            return Start(watcher)
        return Start(watcher, resumed=True)

    async def items(
        self, cache: ResourceCache, start: Start, *, bookmarks: bool, timeout: float
    ) -> AsyncGenerator[list[Item], None]:
        """Batches of events until the watch ends. Raises Gone when the log no longer reaches back."""
        watcher = start.watcher
        seconds = timeout or LONGEST_SECONDS * (1 + self._random.random())
        if start.failure is not None:
            raise start.failure
        timers: list[Timer] = [self._timers.after(seconds, watcher.close)]
        try:
            if start.resumed:
                async for batch in self._catch_up(cache, watcher):
                    yield batch
            if bookmarks:
                # Not before: a bookmark says that everything up to it was seen.
                self._bookmarks.add(watcher)
                if BEFORE_END < seconds < BOOKMARK_SECONDS:
                    mark = partial(self._bookmarks.send, watcher)
                    timers.append(self._timers.after(seconds - BEFORE_END, mark))
            while batch := await watcher.next():
                yield batch
        finally:
            for timer in timers:
                timer.cancel()
            self._bookmarks.discard(watcher)
            cache.unsubscribe(watcher)

    async def _catch_up(self, cache: ResourceCache, watcher: Watcher) -> AsyncIterator[list[Item]]:
        """Changes that only the store's log still has; then the watcher takes over without a gap."""
        revision = watcher.after
        try:
            while revision < cache.floor:
                if revision < self._caches.horizon:
                    raise Compacted(revision, self._caches.horizon)
                goal = self._caches.current
                async for change in self._caches.replay(cache, revision, goal):
                    watcher.offer(change)
                    if batch := watcher.taken():
                        yield batch
                revision = goal
        except Compacted as error:
            raise Gone(f"too old resource version: {error.wanted} ({error.oldest})") from error
        watcher.after = revision
        for change in cache.history(revision):
            watcher.offer(change)
        cache.subscribe(watcher)


async def converted(
    resource: Resource, start: Start, items: AsyncGenerator[list[Item], None]
) -> AsyncGenerator[list[Item], None]:
    """The same events, after their objects were converted to the version of the watch; those that it selects."""
    async with aclosing(items):
        async for batch in items:
            changes = [what for _, what in batch if not isinstance(what, int)]
            await resource.ready([one for change in changes for one in (change.entry, change.old) if one is not None])
            shown = batch if start.match is None else _selected(batch, start.match)
            if shown:
                yield shown


def _selected(batch: list[Item], match: Match) -> list[Item]:
    found = [(type if isinstance(what, int) else transition(what, match), what) for type, what in batch]
    return [item for item in found if item[0]]


async def lines(form: Form, start: Start, items: AsyncGenerator[list[Item], None]) -> AsyncIterator[bytes]:
    """The watch as lines or frames of the form; what goes wrong becomes an ERROR event, as the API reference has it."""
    try:
        for first in range(0, len(start.initial), AT_ONCE):
            yield b"".join([form.event("ADDED", entry) for entry in start.initial[first : first + AT_ONCE]])
        if start.mark:
            yield form.line("BOOKMARK", form.bookmark(start.watcher.after, INITIAL_EVENTS_END))
        async with aclosing(items):
            async for batch in items:
                for piece in _pieces(form, batch):
                    yield piece
    except ApiError as error:
        yield form.line("ERROR", error.status())


async def objects(form: Form, start: Start, items: AsyncGenerator[list[Item], None]) -> AsyncIterator[dict[str, Any]]:
    """The watch for a local client: decoded, shared objects."""
    try:
        for entry in start.initial:
            yield {"type": "ADDED", "object": form.obj(entry)}
        if start.mark:
            yield {"type": "BOOKMARK", "object": form.bookmark(start.watcher.after, INITIAL_EVENTS_END)}
        async with aclosing(items):
            async for batch in items:
                for type, what in batch:
                    shown = form.bookmark(what) if isinstance(what, int) else form.obj(what.subject(type))
                    yield {"type": type, "object": shown}
    except ApiError as error:
        yield {"type": "ERROR", "object": error.status()}


def _pieces(form: Form, batch: list[Item]) -> Iterator[bytes]:
    """The lines of a batch, in few pieces that are not copied into one huge one."""
    due, size = [], 0
    for item in batch:
        line = _render(form, item)
        due.append(line)
        size += len(line)
        if size > AT_ONCE_BYTES:
            yield b"".join(due)
            due, size = [], 0
    if due:
        yield b"".join(due)


def _render(form: Form, item: Item) -> bytes:
    type, what = item
    if isinstance(what, int):
        return form.line("BOOKMARK", form.bookmark(what))
    return what.form((type, form.name), form.event)

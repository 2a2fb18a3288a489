"""Events are kept for an hour after their last write, as upstream's --event-ttl; nobody looks until one is due."""

from __future__ import annotations

import asyncio
import logging

from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.entries import Change, Entry
from tiphys.apiserver.storage import Author, Storage
from tiphys.apiserver.timers import Timers
from tiphys.apiserver.watcher import Watcher
from tiphys.base.clock import Clock, parse_rfc3339
from tiphys.store.types import Mismatch, StoreError

log = logging.getLogger(__name__)

AUTHOR = Author("system:apiserver", "event expiry")
AGAIN_SECONDS = 10.0
"""When a removal is tried again that the store could not do."""


class EventExpiry:
    """Removes the objects of `cache` that were last written `seconds` ago."""

    def __init__(self, cache: ResourceCache, storage: Storage, timers: Timers, clock: Clock, seconds: float) -> None:
        self._cache, self._storage, self._timers, self._clock = cache, storage, timers, clock
        self._seconds = seconds

    async def run(self) -> None:
        """Follow the cache until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:  # a watch ends when everything had to be read again
                await self._follow(group)

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        watcher = Watcher(self._cache.last_revision)
        self._cache.subscribe(watcher)
        try:
            for entry in self._cache.range():
                self._schedule(entry, self._seconds - self._age(entry), group)
            while items := await watcher.next():
                for type, change in items:
                    if type != "DELETED" and isinstance(change, Change):
                        self._schedule(change.entry, self._seconds, group)
        finally:
            self._cache.unsubscribe(watcher)

    def _schedule(self, entry: Entry, seconds: float, group: asyncio.TaskGroup) -> None:
        key, revision = entry.key, entry.revision
        self._timers.after(max(0.0, seconds), lambda: self._due(key, revision, group))

    def _due(self, key: str, revision: int, group: asyncio.TaskGroup) -> None:
        current = self._cache.at(key)
        if current is not None and current.revision == revision:
            group.create_task(self._remove(current, group))

    async def _remove(self, entry: Entry, group: asyncio.TaskGroup) -> None:
        try:
            await self._storage.remove(self._cache, entry, AUTHOR)
        except Mismatch:
            return  # written again, or deleted by somebody else
        except StoreError as error:
            log.warning("%s cannot be removed yet: %s", entry.key, error)
            self._schedule(entry, AGAIN_SECONDS, group)

    def _age(self, entry: Entry) -> float:
        obj = self._cache.obj(entry)
        stamp = obj.get("lastTimestamp") or obj["metadata"].get("creationTimestamp")
        try:
            return self._clock.time() - parse_rfc3339(stamp) if stamp else 0.0
        except ValueError:  # a time that other rules let in must not keep the server from starting
            return 0.0

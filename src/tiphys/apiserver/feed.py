"""Feeds the watch caches from the store: one list at start, then one watch over everything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable

from tiphys.apiserver.cache import Objects, ResourceCache, Waiters
from tiphys.apiserver.codec import Obj
from tiphys.apiserver.entries import Change, Stored
from tiphys.base.clock import Clock
from tiphys.base.errors import ServiceUnavailable
from tiphys.store.types import Compacted, Event, Row, Store, Unavailable

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""How long the feed waits before it reads everything again from a store that was not there."""


class Caches(Objects):
    """All watch caches. `load()` once, then `run()` for as long as the server lives."""

    def __init__(self, store: Store, resources: Iterable[Stored], clock: Clock) -> None:
        self._clock = clock
        self._by_resource: dict[tuple[str, str], ResourceCache] = {}
        self._by_prefix: dict[str, ResourceCache] = {}
        super().__init__(self._by_resource)
        self._store = store
        self._waiters = Waiters()
        self._handed: dict[str, tuple[bytes, Obj]] = {}
        self._unclaimed: dict[str, Row] = {}
        self.loaders: list[Callable[[], None]] = []
        """Called when everything was read (again), to add and remove caches before anybody looks."""
        self.current = 0
        """The revision up to which the caches show everything."""
        self.horizon = 0
        """What was before this revision is answered no more (`compaction`)."""
        for stored in resources:
            self._add(ResourceCache(stored))

    def of(self, group: str, plural: str) -> ResourceCache:
        """The cache of a stored resource. Raises KeyError."""
        return self._by_resource[group, plural]

    def all(self) -> list[ResourceCache]:
        return list(self._by_resource.values())

    async def load(self) -> None:
        """Read everything that is stored. Until it is read, what was known before is shown."""
        page = await self._store.list("")
        for cache in self._by_resource.values():
            cache.clear()
            cache.floor = cache.last_revision = page.revision
        self._unclaimed = {}
        for row in page.rows:
            cache_of = self._cache_of(row.key)
            if cache_of is not None:
                cache_of.load(row)
            else:
                self._unclaimed[row.key] = row
        self.current = page.revision
        self.loaded()

    def loaded(self) -> None:
        """Let caches be added for what is stored without one."""
        for loader in self.loaders:
            loader()

    def add(self, cache: ResourceCache) -> None:
        """Feed another cache, from the next event on and with what was read for it."""
        cache.floor = cache.last_revision = self.current
        self._add(cache)
        for key in sorted(key for key in self._unclaimed if key.startswith(cache.stored.prefix)):
            cache.load(self._unclaimed.pop(key))

    def remove(self, cache: ResourceCache) -> None:
        """Feed a cache no more, and end its watches."""
        stored = cache.stored
        self._by_resource.pop((stored.group, stored.plural), None)
        self._by_prefix.pop(stored.prefix, None)
        cache.end_watches()

    def settle(self) -> None:
        """Forget rows that no cache wants."""
        if not self._store.shared:
            self._unclaimed = {}

    async def run(self) -> None:
        """Follow the store until cancelled, or until it is closed."""
        while not await self._follow():
            pass
        self._end_watches()

    async def _follow(self) -> bool:
        """Apply what the store publishes; True when the store was closed, False when it has to be followed anew."""
        joined = False
        try:
            async with self._store.watch("", self.current) as batches:
                joined = True
                async for batch in batches:
                    self._apply(batch)
        except Compacted:
            # Whoever was cut for being slow reads on from the log, as long as the log reaches back.
            if not joined:
                await self._start_anew()
            return False
        except Unavailable as error:
            await self._pause(error)
            return False
        return True

    async def _start_anew(self) -> None:
        """Read everything again; all watches end."""
        log.warning("the watch cache fell behind the store's history and reads everything again")
        while True:
            try:
                await self.load()
            except Unavailable as error:
                await self._pause(error)
            else:
                break
        self._end_watches()
        self._waiters.reached(self.current)

    async def _pause(self, error: Unavailable) -> None:
        log.warning("%s; trying again", error)
        await self._clock.sleep(RETRY_SECONDS)

    def _end_watches(self) -> None:
        for cache in self.all():
            cache.end_watches()

    def hand_over(self, key: str, value: bytes, obj: Obj) -> None:
        """Leave the decoded form of a value that is about to be written, so that nobody decodes it again."""
        self._handed[key] = (value, obj)

    def take_back(self, key: str) -> None:
        """The value that was handed over was not written."""
        self._handed.pop(key, None)

    async def wait(self, revision: int, seconds: float | None = None) -> bool:
        """Return True when the caches show `revision`, False if they do not within `seconds`."""
        if revision <= self.current:
            return True
        if seconds is None:
            await self._waiters.add(revision)
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._waiters.add(revision)
        except TimeoutError:
            return False
        return True

    def require(self, group: str, plural: str) -> ResourceCache:
        """The cache of a resource that must exist. Raises ServiceUnavailable."""
        try:
            return self.of(group, plural)
        except KeyError:
            raise ServiceUnavailable(f"the resource {plural}.{group} has no storage yet") from None

    async def replay(self, cache: ResourceCache, after: int, upto: int) -> AsyncIterator[Change]:
        """Changes of one resource from the store's log, up to revision `upto`. Raises Compacted."""
        if after >= upto:
            return
        # Over all keys: the log surely has an event at `upto`, but perhaps not one of this resource.
        async with self._store.watch("", after) as batches:
            async for batch in batches:
                for event in batch:
                    if event.row.key.startswith(cache.stored.prefix) and event.row.revision <= upto:
                        yield cache.change_of(event)
                if batch[-1].row.revision >= upto:
                    return

    def _add(self, cache: ResourceCache) -> None:
        stored = cache.stored
        self._by_resource[stored.group, stored.plural] = self._by_prefix[stored.prefix] = cache

    def _cache_of(self, key: str) -> ResourceCache | None:
        first = key.find("/")
        return self._by_prefix.get(key[: key.find("/", first + 1) + 1])

    def _stray(self, event: Event) -> None:
        """Another server may write objects of a resource before this one has learned of the resource."""
        if event.deleted:
            self._unclaimed.pop(event.row.key, None)
        else:
            self._unclaimed[event.row.key] = event.row

    def _apply(self, batch: tuple[Event, ...]) -> None:
        for event in batch:
            row = event.row
            cache = self._cache_of(row.key)
            if cache is not None:
                handed = self._handed.pop(row.key, None)
                obj = handed[1] if handed is not None and not event.deleted and handed[0] == row.value else None
                try:
                    cache.apply(event, obj)
                except (ValueError, KeyError, TypeError):
                    # One unreadable row must not stop the feed of all others.
                    log.exception("the row %s at revision %d cannot be read", row.key, row.revision)
            elif self._store.shared:
                self._stray(event)
        self.current = batch[-1].row.revision
        self._waiters.reached(self.current)

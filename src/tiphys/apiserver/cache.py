"""The watch cache: every current object's exact bytes, fed by one watch on the store.

GET, LIST and WATCH are answered from here. A writer waits until the cache shows its own revision (`wait`), so that
whatever was acknowledged is read by everybody. `ResourceCache` is one resource's table, index and recent history;
`Caches` feeds them all and is the `Reader` of admission and authorization.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tiphys.apiserver import codec
from tiphys.apiserver.codec import Obj
from tiphys.apiserver.entries import Change, Entry, Stored
from tiphys.apiserver.keys import Keys
from tiphys.apiserver.watcher import Watcher
from tiphys.store.types import Event, Row

HISTORY_BYTES = 8 << 20
"""Bytes of the objects in a resource's recent changes; what is older is read from the store's log."""


class ResourceCache:
    """Current objects of one resource in key order, its recent changes, and who watches them."""

    def __init__(self, stored: Stored, floor: int = 0) -> None:
        self.stored = stored
        self.head = codec.head(stored.kind, stored.api_version)
        self.last_revision = floor
        """Revision of the last change of any object of this resource."""
        self.floor = floor
        """Changes after this revision are all in the history."""
        self._entries: dict[str, Entry] = {}
        self._keys = Keys()
        self._index: dict[str, dict[str, Entry]] = {}
        self._history: deque[Change] = deque()
        self._history_bytes = 0
        self._recent: deque[Obj] = deque(maxlen=stored.kept)
        self._watchers: dict[str, list[Watcher]] = {}
        self.listeners: list[Callable[[Change], None]] = []
        """Told of each change before anybody else learns of it; they must not wait or fail."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, namespace: str, name: str) -> Entry | None:
        return self._entries.get(self.stored.key(namespace, name))

    def at(self, key: str) -> Entry | None:
        """The entry of a key of the store."""
        return self._entries.get(key)

    def range(self, namespace: str = "", after: str = "") -> list[Entry]:
        """Entries of a namespace ("": all) in key order, those after key `after` only."""
        keys = self._keys.sorted()
        low, high = 0, len(keys)
        if namespace:
            prefix = f"{self.stored.prefix}{namespace}/"
            low, high = bisect_left(keys, prefix), bisect_left(keys, prefix[:-1] + "0")
        if after:
            low = max(low, bisect_left(keys, after + "\0"))
        entries = self._entries
        if low == 0 and high == len(keys):
            return [entries[key] for key in keys]
        return [entries[key] for key in keys[low:high]]

    def sample(self, count: int) -> list[Entry]:
        """Some entries, to learn from what all are like."""
        return [self._entries[key] for key in self._keys.sorted()[:count]]

    def triggered(self, value: str) -> list[Entry]:
        """Entries whose trigger has this value, in key order."""
        found = self._index.get(value)
        return [found[key] for key in sorted(found)] if found else []

    def obj(self, entry: Entry) -> Obj:
        """The shared decoded object of an entry."""
        return entry.obj(self.stored)

    def entry(self, key: str, item: bytes, revision: int, created: int, obj: Obj | None = None) -> Entry:
        """An Entry of this resource that is not (yet) in the table."""
        namespace = key[len(self.stored.prefix) :].partition("/")[0] if self.stored.namespaced else ""
        entry = Entry(key, item, revision, created, namespace, self._recent)
        if obj is not None:
            entry.adopt(obj, self.stored)
        if self.stored.trigger is not None:
            entry.trigger = self.stored.trigger(entry.obj(self.stored))
        return entry

    def entry_of(self, row: Row, obj: Obj | None = None) -> Entry:
        """The Entry of a row of the store."""
        return self.entry(row.key, codec.item(row.value, self.head, row.revision), row.revision, row.created, obj)

    def written_as(self, obj: Mapping[str, Any]) -> str:
        """The apiVersion that an object is stored in."""
        return self.stored.api_version

    def clear(self) -> None:
        """Forget everything: the store is about to be read again."""
        for held in (self._entries, self._index, self._history):
            held.clear()
        self._keys.clear()
        self._history_bytes = 0

    def load(self, row: Row) -> None:
        """Take a current row at start; rows come in key order."""
        entry = self.entry_of(row)
        self._entries[entry.key] = entry
        self._keys.add(entry.key)
        self._link(entry)
        self.last_revision = max(self.last_revision, row.revision)

    def change_of(self, event: Event, obj: Obj | None = None) -> Change:
        """What an event of the store's log means to watchers."""
        row, previous = event.row, event.previous
        old = self._entries.get(row.key)
        if old is None or previous is None or old.revision != previous.revision:
            old = self.entry_of(previous) if previous is not None else None
        if not event.deleted:
            return Change("ADDED" if old is None else "MODIFIED", row.revision, self.entry_of(row, obj), old)
        value = previous.value if previous is not None else row.value
        last = self.entry_of(Row(row.key, value, row.revision, row.created))
        return Change("DELETED", row.revision, last, old)

    def apply(self, event: Event, obj: Obj | None = None) -> None:
        """Take over one write and tell the watchers. `obj` is the decoded value if the writer left it here."""
        change = self.change_of(event, obj)
        key = change.entry.key
        current = self._entries.get(key)
        if current is not None:
            self._unlink(current)
        if change.type == "DELETED":
            if self._entries.pop(key, None) is not None:
                self._keys.remove(key)
        else:
            if current is None:
                self._keys.add(key)
            self._entries[key] = change.entry
            self._link(change.entry)
        self.last_revision = change.revision
        self._remember(change)
        for listener in self.listeners:
            listener(change)
        self._publish(change)

    def _remember(self, change: Change) -> None:
        history = self._history
        history.append(change)
        self._history_bytes += len(change.entry.item)
        while len(history) > self.stored.remembered or (self._history_bytes > HISTORY_BYTES and len(history) > 1):
            oldest = history.popleft()
            self.floor = oldest.revision
            self._history_bytes -= len(oldest.entry.item)

    def history(self, after: int) -> list[Change]:
        """Changes after a revision that is not before `floor`."""
        return [change for change in self._history if change.revision > after]

    def subscribe(self, watcher: Watcher) -> None:
        self._watchers.setdefault(watcher.trigger, []).append(watcher)

    def unsubscribe(self, watcher: Watcher) -> None:
        watchers = self._watchers.get(watcher.trigger)
        if watchers and watcher in watchers:
            watchers.remove(watcher)
            if not watchers:
                del self._watchers[watcher.trigger]

    def watchers(self) -> Iterator[Watcher]:
        for group in self._watchers.values():
            yield from group

    def end_watches(self) -> None:
        """Close all watches; what is queued is still read."""
        for watcher in list(self.watchers()):
            watcher.close()

    def _publish(self, change: Change) -> None:
        values = {""}
        if self.stored.trigger is not None:
            values |= {change.entry.trigger, change.old.trigger if change.old is not None else ""}
        gone = []
        for value in values:
            for watcher in self._watchers.get(value, ()):
                watcher.offer(change)
                if watcher.closed:
                    gone.append(watcher)
        # Mostly they unsubscribe themselves; not those whose stream was never begun.
        for watcher in gone:
            self.unsubscribe(watcher)

    def _link(self, entry: Entry) -> None:
        if entry.trigger:
            self._index.setdefault(entry.trigger, {})[entry.key] = entry

    def _unlink(self, entry: Entry) -> None:
        group = self._index.get(entry.trigger)
        if group is not None:
            group.pop(entry.key, None)
            if not group:
                del self._index[entry.trigger]


class Waiters:
    """Tasks that wait until the cache shows a revision."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def add(self, revision: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, future))
        return future

    def reached(self, revision: int) -> None:
        """Wake whoever waited for `revision` or less."""
        if not self._waiting:
            return
        still: deque[tuple[int, asyncio.Future[None]]] = deque()
        for wanted, future in self._waiting:
            if wanted > revision:
                still.append((wanted, future))
            elif not future.done():
                future.set_result(None)
        self._waiting = still


class Objects:
    """The `Reader` over a set of caches: current objects, decoded and shared."""

    def __init__(self, caches: dict[tuple[str, str], ResourceCache]) -> None:
        self._caches = caches

    def get(self, group: str, plural: str, namespace: str, name: str) -> Obj | None:
        cache = self._caches.get((group, plural))
        entry = cache.get(namespace, name) if cache is not None else None
        return cache.obj(entry) if cache is not None and entry is not None else None

    async def wait_exists(self, group: str, plural: str, namespace: str, name: str, seconds: float) -> Obj | None:
        found = self.get(group, plural, namespace, name)
        cache = self._caches.get((group, plural))
        if found is not None or cache is None:
            return found
        watcher = Watcher(cache.last_revision, namespace=namespace, name=name)
        cache.subscribe(watcher)
        try:
            async with asyncio.timeout(seconds):
                await watcher.next()
        except TimeoutError:
            return None
        finally:
            cache.unsubscribe(watcher)
        return self.get(group, plural, namespace, name)

    def list(self, group: str, plural: str, namespace: str = "") -> Iterable[Obj]:
        cache = self._caches.get((group, plural))
        # Many a resource that admission looks up has no objects at all.
        return [cache.obj(entry) for entry in cache.range(namespace)] if cache else ()

    def revision(self, group: str, plural: str) -> int:
        cache = self._caches.get((group, plural))
        return 0 if cache is None else cache.last_revision

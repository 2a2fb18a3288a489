"""A local copy of one resource, kept current by list and watch, for everybody who reads it often.

An `Informer` lists, then watches from the list's revision; when the server says that the revision is gone it
lists again and works out what changed. Subscribers are told in order and synchronously: they note keys in a
queue, nothing slow. `get` and `list` never block. Objects are shared and read-only.

`InformerFactory` hands the same informer to everybody who asks for the same thing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError, Gone
from tiphys.client.backoff import Backoff
from tiphys.client.streams import closing
from tiphys.client.types import Client, Object, Resource, WatchEvent

log = logging.getLogger(__name__)

_WATCH = 300.0
"""Seconds, and up to twice that, that the server is asked to keep a watch; then it is opened anew."""
_GRACE = 30.0
"""Seconds after which a server that has not ended a watch as asked is taken for gone."""
_DOUBTS = 5
"""Lists that are refused because they are too old before one is believed."""

Changed = Callable[[Object | None, Object | None], None]
"""Called with (old, new): (None, new) was added, (old, None) was deleted. Must not block and must not raise."""

Indexer = Callable[[Object], Iterable[str]]
"""The values under which an object is found by `Informer.by_index`."""

Transform = Callable[[Object], Object]
"""Makes what is kept of an object, to keep less of it."""

Objects = list[Object]


def key_of(obj: Object) -> str:
    """The key of `obj` in caches and queues: namespace/name, or only name for what has no namespace."""
    meta = obj["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])


def split_key(key: str) -> tuple[str, str]:
    """(namespace, name); the namespace is "" for what has none."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


class ObjectCache:
    """Objects by key, by namespace and by any index; what an informer keeps and readers read."""

    def __init__(self) -> None:
        self._objects: dict[str, Object] = {}
        self._indexers: dict[str, Indexer] = {"namespace": _namespaces}
        self._indexes: dict[str, dict[str, dict[str, Object]]] = {"namespace": {}}

    def __len__(self) -> int:
        return len(self._objects)

    def keys(self) -> tuple[str, ...]:
        return tuple(self._objects)

    def get(self, namespace: str, name: str) -> Object | None:
        """The object, or None; `namespace` is "" for what has none."""
        return self._objects.get(f"{namespace}/{name}" if namespace else name)

    def by_key(self, key: str) -> Object | None:
        return self._objects.get(key)

    def list(self, namespace: str = "") -> Objects:
        """All objects, or those of one namespace."""
        return self.by_index("namespace", namespace) if namespace else [*self._objects.values()]

    def by_index(self, index: str, value: str) -> Objects:
        """Objects for which the indexer of that name gave `value`."""
        return [*self._indexes[index].get(value, {}).values()]

    def count(self, index: str, value: str) -> int:
        """How many there are of those that `by_index` returns."""
        return len(self._indexes[index].get(value, ()))

    def add_index(self, name: str, indexer: Indexer) -> None:
        """Index present and future objects; adding an index of the same name again changes nothing."""
        if name in self._indexers:
            return
        self._indexers[name] = indexer
        self._indexes[name] = {}
        for key, obj in self._objects.items():
            for value in indexer(obj):
                self._indexes[name].setdefault(value, {})[key] = obj

    def store(self, key: str, new: Object | None) -> Object | None:
        """Put (or with None remove) the object at `key`; returns what was there."""
        old = self._objects.get(key)
        for name, indexer in self._indexers.items():
            _reindex(self._indexes[name], key, indexer(old) if old else (), indexer(new) if new else (), new)
        if new is None:
            self._objects.pop(key, None)
        else:
            self._objects[key] = new
        return old


def _number(revision: str) -> int:
    """A resourceVersion as a number; 0 for one that is none, which some aggregated servers have."""
    return int(revision) if revision.isdigit() else 0


def _namespaces(obj: Object) -> Iterable[str]:
    namespace = obj["metadata"].get("namespace")
    return (namespace,) if namespace else ()


def _reindex(
    index: dict[str, dict[str, Object]], key: str, before: Iterable[str], after: Iterable[str], new: Object | None
) -> None:
    kept = set(after)
    for value in before:
        if value not in kept and (bucket := index.get(value)) is not None:
            bucket.pop(key, None)
            if not bucket:
                del index[value]
    if new is not None:
        for value in kept:
            index.setdefault(value, {})[key] = new


class Informer(ObjectCache):
    """The current objects of `resource`, limited by namespace and selectors, while `run` runs."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        clock: Clock,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        transform: Transform | None = None,
    ) -> None:
        super().__init__()
        self.resource = resource
        self._transform = transform
        self._client = client
        self._clock = clock
        self._namespace, self._labels, self._fields = namespace, labels, fields
        self._subscribers: list[Changed] = []
        self._synced = asyncio.Event()
        self._revision = ""
        self._newest = self._older = 0
        self._failures = 0
        self._patience = Backoff(base=_WATCH, limit=_WATCH, jitter=1.0, seed=resource.plural)
        self._backoff = Backoff(base=0.8, limit=30.0, jitter=1.0, seed=resource.plural)

    @property
    def synced(self) -> bool:
        """Whether the first list has arrived."""
        return self._synced.is_set()

    @property
    def revision(self) -> int:
        """How far into the history of its resource the cache has come; 0 while that is not known (KEP-5504)."""
        return _number(self._revision)

    async def wait_synced(self) -> None:
        """Wait until the first list has arrived."""
        await self._synced.wait()

    def subscribe(self, changed: Changed) -> None:
        """Tell `changed` of every change; what is there already is told as added, now."""
        self._subscribers.append(changed)
        for obj in self.list():
            changed(None, obj)

    def unsubscribe(self, changed: Changed) -> None:
        self._subscribers.remove(changed)

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                if not self._revision:
                    await self._relist()
                await self._follow()
                self._failures = 0
            except (ApiError, OSError, ValueError) as error:
                await self._recover(error)
            except Exception as error:  # what one server answers must not end everybody's work
                log.exception("watch of %s: unexpected answer", self.resource.plural)
                await self._recover(error)

    async def _recover(self, error: Exception) -> None:
        """Wait before the next try; the first time that the revision is gone there is nothing to wait for."""
        gone = isinstance(error, Gone)
        if gone:
            self._revision = ""
        if self._failures or not gone:
            delay = self._backoff.delay(self._failures)
            log.warning("watch of %s failed, next try in %.1f s: %s", self.resource.plural, delay, error)
            await self._clock.sleep(delay)
        self._failures += 1

    async def _relist(self) -> None:
        listing = await self._client.list(self.resource, self._namespace, labels=self._labels, fields=self._fields)
        self._check_age(_number(listing.resource_version))
        present = set()
        for obj in filter(self._named, listing.items):
            present.add(key_of(obj))
            self._put(obj)
        for key in self.keys():
            if key not in present:
                self._remove(key, None)
        self._revision = listing.resource_version
        self._synced.set()

    def _check_age(self, revision: int) -> None:
        """Refuse a list from before what has been seen: it would take new objects for deleted ones.

        One that stays old is believed at last: the store was restored from a copy. Raises ApiError."""
        if revision < self._newest and self._older < _DOUBTS:
            self._older += 1
            raise ApiError(f"a list of revision {revision} is older than {self._newest}, which was seen")
        self._newest, self._older = revision, 0

    def _named(self, obj: Object) -> bool:
        """Whether it is an object that can be kept; others are left out, aloud."""
        meta = obj.get("metadata")
        if isinstance(meta, Mapping) and meta.get("name"):
            return True
        log.warning("%s: an object without a name was left out", self.resource.plural)
        return False

    async def _follow(self) -> None:
        """Watch until the server ends it. A watch that ends at once without an event backs off like an error."""
        started = self._clock.monotonic()
        seconds = self._patience.delay(0)
        seen = False
        watch = self._client.watch(
            self.resource,
            self._namespace,
            labels=self._labels,
            fields=self._fields,
            resource_version=self._revision,
            timeout=seconds,
        )
        async with asyncio.timeout(seconds + _GRACE), closing(watch) as events:
            async for event in events:
                seen, self._failures = True, 0
                self._apply(event)
        if not seen and self._clock.monotonic() - started < 1.0:
            raise ApiError("the watch ended at once")

    def _apply(self, event: WatchEvent) -> None:
        self._revision = str((event.object.get("metadata") or {}).get("resourceVersion") or self._revision)
        self._newest = max(self._newest, self.revision)
        if event.type == "BOOKMARK" or not self._named(event.object):
            return
        if event.type in ("ADDED", "MODIFIED"):
            self._put(event.object)
        elif event.type == "DELETED":
            self._remove(key_of(event.object), event.object)

    def _put(self, obj: Object) -> None:
        if self._transform is not None:
            obj = self._transform(obj)
        key = key_of(obj)
        old = self.by_key(key)
        if old is not None:
            before, after = old["metadata"], obj["metadata"]
            if before.get("resourceVersion") == after.get("resourceVersion") and before.get("uid") == after.get("uid"):
                return
            if before.get("uid") != after.get("uid"):
                self._remove(key, None)  # deleted and created again while nobody looked
                old = None
        self.store(key, obj)
        self._tell(old, obj)

    def _remove(self, key: str, last: Object | None) -> None:
        old = self.store(key, None)
        if old is not None:
            self._tell(last or old, None)

    def _tell(self, old: Object | None, new: Object | None) -> None:
        for changed in self._subscribers:
            try:
                changed(old, new)
            except Exception:  # one subscriber's fault must not starve the others
                log.exception("a subscriber to %s failed", self.resource.plural)


class InformerFactory:
    """Shared informers, started when first asked for; stops them on exit.

    async with InformerFactory(client, clock) as informers:
        pods = informers.get(PODS)
        await informers.wait_synced()
    """

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._informers: dict[tuple[Resource, str, str, str], Informer] = {}
        self._stack = AsyncExitStack()
        self._tasks: asyncio.TaskGroup | None = None
        self._running: dict[Informer, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        for informer in self._informers.values():
            self._start(informer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._running.values():
            task.cancel()
        self._tasks = None
        await self._stack.__aexit__(kind, error, trace)

    def __iter__(self) -> Iterator[Informer]:
        return iter(tuple(self._informers.values()))

    def get(self, resource: Resource, *, namespace: str = "", labels: str = "", fields: str = "") -> Informer:
        """The informer of exactly this; made and started if it is the first time."""
        key = (resource, namespace, labels, fields)
        informer = self._informers.get(key)
        if informer is None:
            informer = Informer(self._client, resource, self._clock, namespace=namespace, labels=labels, fields=fields)
            self._informers[key] = informer
            self._start(informer)
        return informer

    async def wait_synced(self) -> None:
        """Wait until every informer asked for so far has its first list."""
        for informer in self:
            await informer.wait_synced()

    def metadata_of(self, resource: Resource, transform: Transform) -> Informer:
        """An informer of all objects of which only `transform` is needed: a full one that is there already, else one
        that keeps no more than that."""
        full = self._informers.get((resource, "", "", ""))
        if full is not None:
            return full
        key = (resource, "", "", "transformed")
        informer = self._informers.get(key)
        if informer is None:
            informer = Informer(self._client, resource, self._clock, transform=transform)
            self._informers[key] = informer
            self._start(informer)
        return informer

    def stop(self, informer: Informer) -> None:
        """End an informer that nobody needs any more, because its resource has gone."""
        for key, known in list(self._informers.items()):
            if known is informer:
                del self._informers[key]
        task = self._running.pop(informer, None)
        if task is not None:
            task.cancel()

    def _start(self, informer: Informer) -> None:
        if self._tasks is not None:
            name = f"informer {informer.resource.plural}"
            self._running[informer] = self._tasks.create_task(informer.run(), name=name)


def index_by_owner(obj: Object) -> Iterable[str]:
    """An Indexer: the uid of the controlling owner."""
    return (ref["uid"] for ref in obj["metadata"].get("ownerReferences") or () if ref.get("controller"))


def index_by_field(*path: str) -> Indexer:
    """An Indexer: the text at a path of fields, e.g. index_by_field("spec", "nodeName"); nothing if it is empty."""

    def values(obj: Object) -> Iterable[str]:
        value: object = obj
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return (str(value),) if value else ()

    return values

"""Writes: compare-and-swap on the store, then wait until the watch cache shows it.

The only module of the API server that calls the store's writing methods, so what every write needs is here once:
the bytes are encoded once, the decoded object is left for the cache, and nobody is answered before the cache, hence
every reader, has the write.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.apiserver import codec
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.codec import Obj
from tiphys.apiserver.encryption import EncryptedStore
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.feed import Caches
from tiphys.store.types import Mismatch, Row, Store, StoreError, StoreTooLarge

LIMIT = 1536 << 10
"""Bytes of an object in the store at most: what etcd takes in a request (--max-request-bytes)."""
TOO_LARGE = "etcdserver: request is too large"


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes, and which object's change made them write (the store's actor and cause columns)."""

    actor: str = ""
    cause: str = ""


class Storage:
    """The store and the caches over it."""

    def __init__(self, store: Store, caches: Caches) -> None:
        self._store, self.caches = store, caches
        self._stale: Container[str] = store.stale if isinstance(store, EncryptedStore) else ()

    def stale(self, entry: Entry) -> bool:
        """Whether an object has to be written though it did not change: what encrypts now did not encrypt it."""
        return entry.key in self._stale

    async def create(
        self, cache: ResourceCache, key: str, obj: Mapping[str, Any], author: Author, managed: bytes = b""
    ) -> Entry:
        """Write a new object with these managedFields (JSON). Raises Mismatch when `key` exists."""
        return await self._put(cache, key, obj, 0, author, managed)

    async def replace(
        self, cache: ResourceCache, old: Entry, obj: Mapping[str, Any], author: Author, managed: bytes | None = None
    ) -> Entry:
        """Write `obj` over `old`; managedFields stay as they are unless new ones are given (JSON).

        Raises Mismatch when there is a newer object; the cache then has it."""
        try:
            return await self._put(
                cache, old.key, obj, old.revision, author, old.managed if managed is None else managed
            )
        except Mismatch as error:
            await self._catch_up(error)
            raise

    async def remove(self, cache: ResourceCache, old: Entry, author: Author) -> Entry:
        """Delete `old`; returns it at the deletion's revision. Raises Mismatch like `replace`."""
        try:
            row = await self._store.delete(old.key, expect=old.revision, actor=author.actor, cause=author.cause)
        except Mismatch as error:
            await self._catch_up(error)
            raise
        if row is None:
            raise Mismatch(old.key, None)
        await self.caches.wait(row.revision)
        return cache.entry_of(Row(old.key, row.value, row.revision, old.created))

    async def _put(
        self,
        cache: ResourceCache,
        key: str,
        obj: Mapping[str, Any],
        expect: int,
        author: Author,
        managed: bytes,
    ) -> Entry:
        stored = cache.stored
        value = codec.encode(obj, stored.kind, cache.written_as(obj), managed)
        if len(value) > LIMIT:
            # As upstream: who manages what is given up before the object is.
            value = codec.encode(obj, stored.kind, cache.written_as(obj))
            if len(value) > LIMIT:
                raise StoreTooLarge(TOO_LARGE)
        own = Obj(obj)
        own["metadata"] = dict(obj["metadata"])
        self.caches.hand_over(key, value, own)
        try:
            row = await self._store.put(key, value, expect=expect, actor=author.actor, cause=author.cause)
        except StoreError:
            self.caches.take_back(key)
            raise
        await self.caches.wait(row.revision)
        entry = cache.at(key)
        return entry if entry is not None and entry.revision == row.revision else cache.entry_of(row)

    async def _catch_up(self, error: Mismatch) -> None:
        """Another writer was faster: wait until the cache shows what they wrote."""
        revision = error.current.revision if error.current is not None else await self._store.revision()
        await self.caches.wait(revision)

"""The watch cache of a custom resource: objects that may be stored in several versions and under older schemas.

What was stored under an earlier schema is pruned and defaulted by the current one when somebody reads it, as upstream
does at each read; what this server wrote itself is in that form already. A change of the definition keeps the cache,
but all its entries are looked at anew and all watches end (`CustomCache.redefine`), as upstream tears its storage down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from tiphys.apiserver import codec
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.codec import Obj
from tiphys.apiserver.entries import Entry, Stored
from tiphys.store.types import Row

Reread = Callable[[str, bytes], bytes]
"""From an apiVersion and an item as it is stored to the item as it is read; the same bytes if nothing differs."""


class CustomEntry(Entry):
    """One custom object as of one revision, in the version that it is stored in."""

    __slots__ = ("_cache", "_item", "_pending", "_raw", "_views", "api_version")

    def __init__(
        self, cache: CustomCache, key: str, item: bytes, revision: int, created: int, namespace: str, api_version: str
    ) -> None:
        self._cache, self._pending = cache, False
        self._item = self._raw = b""
        self._views: dict[str, bytes] | None = None
        self.api_version = api_version
        super().__init__(key, item, revision, created, namespace, cache.recent)

    @property
    def item(self) -> bytes:
        """The object's bytes as the current definition reads them."""
        if self._pending:
            self._pending = False
            raw = self._item
            self._item = self._cache.reread(self.api_version, raw)
            self._raw = raw if self._item is not raw else b""
        return self._item

    @item.setter
    def item(self, value: bytes) -> None:
        self._item = value

    @property
    def outdated(self) -> bool:
        """Whether the stored bytes are of another version or schema than the current ones."""
        return self.api_version != self._cache.stored.api_version or (bool(self.item) and bool(self._raw))

    def defer(self) -> None:
        """Have the bytes read anew by whatever is the definition then."""
        if self._raw:
            self._item, self._raw = self._raw, b""
        self._pending, self._views, self._obj = True, None, None

    def adopt(self, obj: Obj, stored: Stored) -> Obj:
        found = super().adopt(obj, stored)
        found["apiVersion"] = self.api_version
        return found

    def as_of(self, revision: int) -> Entry:
        item = self.item.replace(b'"%d"' % self.revision, b'"%d"' % revision, 1)
        new = CustomEntry(self._cache, self.key, item, revision, self.created, self.namespace, self.api_version)
        for api_version, view in (self._views or {}).items():
            new.keep(api_version, {**orjson.loads(view)}, revision)
        return new

    def view(self, api_version: str) -> dict[str, Any] | None:
        """The object as a webhook converted it, without managedFields; None if it has not been asked yet."""
        found = (self._views or {}).get(api_version)
        return None if found is None else dict(orjson.loads(found))

    def keep(self, api_version: str, obj: dict[str, Any], revision: int | None = None) -> None:
        """Remember a conversion."""
        if revision is not None:
            obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
        if self._views is None:
            self._views = {}
        self._views[api_version] = codec.dumps(obj)


class CustomCache(ResourceCache):
    """See the module's docstring. `api_versions` are those that rows may be stored in."""

    def __init__(self, stored: Stored, reread: Reread, api_versions: list[str]) -> None:
        super().__init__(stored)
        self._describe(stored, reread, api_versions)

    @property
    def recent(self) -> deque[Obj]:
        """Decoded objects that are kept alive."""
        return self._recent

    def redefine(self, stored: Stored, reread: Reread, api_versions: list[str]) -> None:
        """Take over a changed definition."""
        self._describe(stored, reread, api_versions)
        self._recent.clear()
        for entry in self._entries.values():
            if isinstance(entry, CustomEntry):
                entry.defer()
        self._history.clear()
        self.floor = self.last_revision
        self.end_watches()

    def _describe(self, stored: Stored, reread: Reread, api_versions: list[str]) -> None:
        self.stored, self.reread = stored, reread
        self.head = codec.head(stored.kind, stored.api_version)
        self._heads = [(codec.head(stored.kind, version), version) for version in api_versions]

    def written_as(self, obj: Mapping[str, Any]) -> str:
        return str(obj["apiVersion"])

    def entry(self, key: str, item: bytes, revision: int, created: int, obj: Obj | None = None) -> Entry:
        return self.versioned(key, item, revision, created, self.stored.api_version, obj)

    def versioned(
        self, key: str, item: bytes, revision: int, created: int, api_version: str, obj: Obj | None = None
    ) -> CustomEntry:
        """An entry of any version that is not (yet) in the table."""
        namespace = key[len(self.stored.prefix) :].partition("/")[0] if self.stored.namespaced else ""
        entry = CustomEntry(self, key, item, revision, created, namespace, api_version)
        if obj is not None:
            entry.adopt(obj, self.stored)
        return entry

    def entry_of(self, row: Row, obj: Obj | None = None) -> Entry:
        api_version = next((version for head, version in self._heads if row.value.startswith(head)), "")
        if not api_version:
            api_version = str(orjson.loads(row.value).get("apiVersion", ""))
        item = codec.item(row.value, codec.head(self.stored.kind, api_version), row.revision)
        entry = self.versioned(row.key, item, row.revision, row.created, api_version, obj)
        if obj is None:
            entry.defer()
        return entry

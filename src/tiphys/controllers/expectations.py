"""Waiting for the cache to show our own writes, so that a controller never creates or deletes twice.

After creating or deleting, the objects' uids are expected; until an informer has shown each of them (or five
minutes have passed, as upstream has it), the key's decisions are put off. What was created and is gone again before
anybody saw it is known by its revision: the informer has shown later ones.
"""

from __future__ import annotations

from typing import ClassVar

from tiphys.base.clock import Clock
from tiphys.client.informer import Informer
from tiphys.client.types import Object
from tiphys.controllers.objects import deleting, name, namespace, uid


class Expectations:
    """What each key waits to see in `informer`."""

    patience: ClassVar[float] = 300.0
    """Seconds until what was expected is given up."""

    def __init__(self, informer: Informer, clock: Clock) -> None:
        self._informer = informer
        self._clock = clock
        self._created: dict[str, str] = {}
        self._deleted: dict[str, str] = {}
        self._pending: dict[str, dict[str, tuple[float, int]]] = {}
        self._seen = 0
        """The latest revision that the informer has shown."""
        informer.subscribe(self._observe)

    def satisfied(self, key: str) -> bool:
        """Whether the cache shows everything that was done for `key`."""
        pending = self._pending.get(key)
        if not pending:
            return True
        for identity in [identity for identity, (_, revision) in pending.items() if 0 < revision <= self._seen]:
            self._fulfil(self._created, identity)
        now = self._clock.monotonic()
        if all(expiry <= now for expiry, _ in pending.values()):
            self.forget(key)
        return key not in self._pending

    def creation(self, key: str, obj: Object) -> None:
        """`obj` was created for `key`."""
        if self._informer.get(namespace(obj), name(obj)) is None:
            self._expect(self._created, key, uid(obj), _revision(obj))

    def deletion(self, key: str, obj: Object) -> None:
        """`obj` is about to be deleted for `key`."""
        self._expect(self._deleted, key, uid(obj), 0)

    def withdraw(self, key: str, obj: Object) -> None:
        """The deletion of `obj` failed: nothing will be seen of it."""
        self._fulfil(self._deleted, uid(obj))

    def forget(self, key: str) -> None:
        """The object behind `key` is gone."""
        for identity in self._pending.pop(key, {}):
            self._created.pop(identity, None)
            self._deleted.pop(identity, None)

    def _expect(self, table: dict[str, str], key: str, identity: str, revision: int) -> None:
        table[identity] = key
        self._pending.setdefault(key, {})[identity] = self._clock.monotonic() + self.patience, revision

    def _fulfil(self, table: dict[str, str], identity: str) -> None:
        key = table.pop(identity, None)
        pending = self._pending.get(key) if key is not None else None
        if pending is not None and key is not None:
            pending.pop(identity, None)
            if not pending:
                del self._pending[key]

    def _observe(self, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is None:
            return
        self._seen = max(self._seen, _revision(obj))
        if self._created:
            self._fulfil(self._created, uid(obj))
        if self._deleted and (new is None or deleting(new)):
            self._fulfil(self._deleted, uid(obj))


def _revision(obj: Object) -> int:
    """Versions of one resource grow, and may be compared (KEP-5504)."""
    return int(obj["metadata"].get("resourceVersion") or 0)

"""Old and new values of an update side by side, as far as a schema says which belongs to which.

Properties belong together by name, items of list maps by their keys; items of other lists to nothing. What did not
change need not obey rules that were made later (KEP-4008, validation ratcheting).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.custom.listtypes import identity
from tiphys.api.custom.schemas import LIST_KEYS, LIST_TYPE, Schema, field, items


class Correlated:
    """A new value, its old one, and their schema."""

    __slots__ = ("_by_key", "_children", "_same", "new", "old", "schema")

    def __init__(self, new: Any, old: Any, schema: Schema) -> None:
        self.new, self.old, self.schema = new, old, schema
        self._children: dict[str | int, Correlated | None] = {}
        self._by_key: dict[Any, Any] | None = None
        self._same: bool | None = None

    def key(self, name: str) -> Correlated | None:
        """The property `name`; None if one of the two has none, or the schema does not know it."""
        if name not in self._children:
            self._children[name] = self._key(name)
        return self._children[name]

    def index(self, at: int) -> Correlated | None:
        """The item `at` of the new list; None if no old one belongs to it."""
        if at not in self._children:
            self._children[at] = self._index(at)
        return self._children[at]

    def same(self) -> bool:
        """Whether nothing changed, in a part that the schema describes."""
        if self._same is None:
            self._same = self._compare()
        return self._same

    def _key(self, name: str) -> Correlated | None:
        if not (isinstance(self.new, Mapping) and isinstance(self.old, Mapping)):
            return None
        if name not in self.new or name not in self.old:
            return None
        part = field(self.schema, name)
        return None if part is None else Correlated(self.new[name], self.old[name], part)

    def _index(self, at: int) -> Correlated | None:
        item = items(self.schema)
        if self.schema.get(LIST_TYPE) != "map" or item is None:
            return None
        if not (isinstance(self.new, list) and isinstance(self.old, list)):
            return None
        if self._by_key is None:
            self._by_key = map_list(self.schema, self.old)
        key = key_of(self.schema, self.new[at])
        old = None if key is None else self._by_key.get(key)
        return None if old is None else Correlated(self.new[at], old, item)

    def _compare(self) -> bool:
        new, old = self.new, self.old
        if isinstance(new, list) and isinstance(old, list):
            return self._same_lists(new, old)
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            if len(new) != len(old):
                return False
            children = map(self.key, new)
            return all(child is not None and child.same() for child in children)
        return new.__class__ is old.__class__ and bool(new == old)

    def _same_lists(self, new: list[Any], old: list[Any]) -> bool:
        if len(new) != len(old):
            return False
        if self.schema.get(LIST_TYPE) != "map":
            return new == old
        children = [self.index(at) for at in range(len(new))]
        return all(child is not None and child.same() for child in children)


def map_list(schema: Schema, values: list[Any]) -> dict[Any, Any]:
    """Items of a list map by their key; of those that share one, the first."""
    out: dict[Any, Any] = {}
    for value in values:
        key = key_of(schema, value)
        if key is not None:
            out.setdefault(key, value)
    return out


def key_of(schema: Schema, value: Any) -> Any:
    """The key of an item of a list map; None if it lacks a part of it, or a part is no scalar."""
    keys = schema.get(LIST_KEYS) or ()
    if not isinstance(value, Mapping) or not keys:
        return None
    found = tuple(identity(value.get(name)) for name in keys)
    return None if any(kind in ("json", "NoneType") for kind, _ in found) else found

"""What the watch cache holds: one Entry an object, one Change a write.

An Entry keeps the exact bytes and decodes them when somebody asks; the decoded object is shared by all readers and
forgotten when nobody holds it any more. A Change renders each of its wire forms once, for all watchers.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tiphys.apiserver import codec
from tiphys.apiserver.codec import Obj

HISTORY = 1024
Trigger = Callable[[Any], str]
"""The value of an object that its index is keyed by (a pod's node)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """How the objects of one resource are stored: what cache and codec need to know of it."""

    group: str
    plural: str
    kind: str
    api_version: str
    namespaced: bool
    trigger: Trigger | None = None
    kept: int = 512
    """Decoded objects kept alive although nobody holds them."""
    remembered: int = HISTORY
    """Changes kept for watches that resume; older ones are read from the store's log."""

    @property
    def prefix(self) -> str:
        """The prefix of its keys in the store, e.g. apps/deployments/."""
        return f"{self.group or 'core'}/{self.plural}/"

    def key(self, namespace: str, name: str) -> str:
        """The key of one object in the store."""
        return f"{self.prefix}{namespace}/{name}" if namespace else self.prefix + name


class Entry:
    """One object as of one revision. Never changed."""

    __slots__ = ("_obj", "_recent", "created", "item", "key", "namespace", "revision", "trigger")

    def __init__(self, key: str, item: bytes, revision: int, created: int, namespace: str, recent: deque[Obj]) -> None:
        self.key, self.item, self.revision, self.created, self.namespace = key, item, revision, created, namespace
        self.trigger = ""
        self._recent = recent
        self._obj: weakref.ref[Obj] | None = None

    @property
    def name(self) -> str:
        return self.key[self.key.rindex("/") + 1 :]

    @property
    def outdated(self) -> bool:
        """Whether the store should be written anew even if nothing is changed (another storage version)."""
        return False

    @property
    def managed(self) -> bytes:
        """metadata.managedFields as JSON; b"" if nobody has tracked them."""
        start, end = codec.managed_span(self.item)
        return self.item[start:end]

    def obj(self, stored: Stored) -> Obj:
        """The decoded object, with kind and apiVersion but without managedFields: shared, never change it."""
        found = self._obj() if self._obj is not None else None
        return found if found is not None else self.adopt(codec.loads(codec.slim(self.item)), stored)

    def adopt(self, obj: Obj, stored: Stored) -> Obj:
        """Take `obj` as this entry's decoded form (a writer has it at hand already)."""
        obj["kind"], obj["apiVersion"] = stored.kind, stored.api_version
        if self.revision:
            obj["metadata"]["resourceVersion"] = str(self.revision)
        self._obj = weakref.ref(obj)
        self._recent.append(obj)
        return obj

    def as_of(self, revision: int) -> Entry:
        """The same object under another revision."""
        item = self.item.replace(b'"%d"' % self.revision, b'"%d"' % revision, 1)
        return Entry(self.key, item, revision, self.created, self.namespace, self._recent)


class Change:
    """One write as watchers see it. `entry` is the object after it (for DELETED: as it was last, at the revision of
    the deletion); `old` the one before, None for ADDED."""

    __slots__ = ("_forms", "entry", "old", "revision", "type")

    def __init__(self, type: str, revision: int, entry: Entry, old: Entry | None) -> None:
        self.type, self.revision, self.entry, self.old = type, revision, entry, old
        self._forms: dict[tuple[str, str], bytes] | None = None

    def form(self, key: tuple[str, str], render: Callable[[str, Entry], bytes]) -> bytes:
        """The bytes of this change in one form: (event type, name of the form); rendered once, then shared."""
        if self._forms is None:
            self._forms = {}
        found = self._forms.get(key)
        if found is None:
            found = self._forms[key] = render(key[0], self.subject(key[0]))
        return found

    def subject(self, type: str) -> Entry:
        """What an event of `type` shows: an object that only left a selection is shown as it was, at this revision."""
        if type != "DELETED" or self.type == "DELETED" or self.old is None:
            return self.entry
        return self.old.as_of(self.revision)

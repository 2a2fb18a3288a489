"""Which entries a LIST, WATCH or DELETECOLLECTION means: namespace, name, labels, fields; by the index where it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import Kind
from tiphys.api.selectors import EVERYTHING, FieldSelector, LabelSelector, parse_fields, parse_labels
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.resource import Call
from tiphys.base.errors import BadRequest

NODE_FIELD = "spec.nodeName"
NOTHING = FieldSelector()
METADATA = ("metadata.name", "metadata.namespace")


class Selection:
    """See the module's docstring."""

    def __init__(
        self,
        cache: ResourceCache,
        kind: Kind,
        namespace: str,
        labels: LabelSelector,
        fields: FieldSelector,
        obj: Callable[[Entry], Mapping[str, Any]] | None = None,
    ) -> None:
        self._obj, self._kind, self._namespace = obj or cache.obj, kind, namespace
        self._labels = None if labels.empty else labels
        self._fields = None if fields.empty else fields
        self.name = fields.value("metadata.name") or ""
        """The one name that is selected, "" for all."""
        self.trigger = (fields.value(NODE_FIELD) or "") if cache.stored.trigger is not None else ""
        """The value of the index that all selected entries have."""
        self.filters = self._labels is not None or bool(fields.terms)
        """Whether entries have to be looked at one by one."""
        self._only_metadata = all(field in METADATA for field, _, _ in fields.terms)

    def entries(self, cache: ResourceCache, after: str = "") -> Sequence[Entry]:
        """The selected entries in key order, those after key `after` only."""
        if not self.filters:
            return cache.range(self._namespace, after)
        if self.name and (self._namespace or not cache.stored.namespaced):
            entry = cache.get(self._namespace, self.name)
            found = [entry] if entry is not None and entry.key > after else []
        elif self.trigger:
            found = [entry for entry in cache.triggered(self.trigger) if entry.key > after]
            if self._namespace:
                found = [entry for entry in found if entry.namespace == self._namespace]
        else:
            found = cache.range(self._namespace, after)
        return [entry for entry in found if self.matches(entry)]

    def last(self, cache: ResourceCache) -> str:
        """The last key among which `entries` are looked for, selected or not; "" if there is none."""
        if self.name and (self._namespace or not cache.stored.namespaced):
            return ""
        found = cache.triggered(self.trigger) if self.trigger else cache.range(self._namespace)
        return found[-1].key if found else ""

    def matches(self, entry: Entry) -> bool:
        """Whether an entry of the right namespace is selected."""
        if self._fields is not None:
            if self.trigger and entry.trigger != self.trigger:
                return False
            if not self._fields.matches(self._fields_of(entry)):
                return False
        if self._labels is None:
            return True
        return self._labels.matches(self._obj(entry)["metadata"].get("labels"))

    def _fields_of(self, entry: Entry) -> Mapping[str, str]:
        named = {"metadata.name": entry.name, "metadata.namespace": entry.namespace}
        if self._only_metadata:
            return named
        return {**self._kind.fields(self._obj(entry)), **named}


def select(call: Call, labels: str, fields: str) -> Selection:
    """The selection of a call. Raises BadRequest for selectors that cannot be parsed or fields that are unknown."""
    resource = call.resource
    wanted = parse_fields(fields) if fields else NOTHING
    if call.info.verb == "watch" and call.info.name and call.request.path.endswith(f"/{call.info.name}"):
        # The old path /watch/.../NAME: the same as a field selector.
        if not wanted.empty and wanted.value("metadata.name") != call.info.name:
            raise BadRequest("fieldSelector metadata.name doesn't match requested name")
        wanted = FieldSelector((("metadata.name", call.info.name, True), *wanted.terms))
    if wanted.terms:
        wanted.check(known_fields(resource.kind))
    selector = parse_labels(labels) if labels else EVERYTHING
    return Selection(resource.cache, resource.kind, call.namespace, selector, wanted, resource.matched)


def known_fields(kind: Kind) -> set[str]:
    """The fields that objects of a kind can be selected by."""
    empty: dict[str, Any] = {"metadata": {}, "spec": {}, "status": {}}
    return {*METADATA, *kind.fields(empty)}

"""The forms in which an object can be shown: as stored, in another version, as metadata only, as a Table row.

A Form renders one Entry; the plain one only joins bytes. Lists, single objects and watch events are all made from
the same Forms, so that a new form works everywhere at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.entries import Entry

Object = Mapping[str, Any]
Wrap = Callable[[bytes], Any]
META_GROUP = "meta.k8s.io"


class Form:
    """Objects as they are stored: nothing is decoded."""

    name = "plain"
    """Watches with forms of the same name share an event's bytes."""

    def __init__(self, cache: ResourceCache, kind: str, api_version: str) -> None:
        self.cache, self.kind, self.api_version = cache, kind, api_version

    def body(self, entry: Entry) -> bytes:
        """The object alone."""
        return self.cache.head + entry.item[1:]

    def obj(self, entry: Entry) -> Object:
        """The object decoded; shared, never change it."""
        return self.cache.obj(entry)

    def source(self, entry: Entry) -> Object:
        """The decoded object that metadata and columns are taken from."""
        return self.cache.obj(entry)

    def show(self, obj: Object) -> Object:
        """A decoded object of the cache in this form; shared, never change it."""
        return obj

    def wire(self, entry: Entry, wrap: Wrap = orjson.loads) -> Object:
        """The object decoded with its managedFields, which are left out of `obj`; `wrap` turns their JSON into what
        an encoder takes."""
        obj, managed = self.obj(entry), entry.managed
        return {**obj, "metadata": {**obj["metadata"], "managedFields": wrap(managed)}} if managed else obj

    def wire_list(self, entries: Sequence[Entry], metadata: Object, wrap: Wrap = orjson.loads) -> dict[str, Any]:
        """A whole list of what `wire` gives."""
        return {**self.list_obj((), metadata), "items": [self.wire(entry, wrap) for entry in entries]}

    def list_body(self, entries: Sequence[Entry], metadata: Object) -> bytes:
        """A whole list and a newline: one join over the entries' bytes."""
        head = b'{"kind":"%sList","apiVersion":"%s","metadata":%s,"items":[' % (
            self.kind.encode(),
            self.api_version.encode(),
            orjson.dumps(metadata),
        )
        if not entries:
            return head + b"]}\n"
        items = [entry.item for entry in entries]
        items[0] = head + items[0]
        items[-1] += b"]}\n"
        return b",".join(items)

    def list_obj(self, entries: Sequence[Entry], metadata: Object) -> dict[str, Any]:
        """A whole list, decoded; its items are shared."""
        items = [self.obj(entry) for entry in entries]
        return {"kind": f"{self.kind}List", "apiVersion": self.api_version, "metadata": dict(metadata), "items": items}

    def bookmark(self, revision: int, annotations: Object | None = None) -> dict[str, Any]:
        """The object of a BOOKMARK event."""
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        if annotations:
            metadata["annotations"] = dict(annotations)
        return {"kind": self.kind, "apiVersion": self.api_version, "metadata": metadata}

    def event(self, type: str, entry: Entry) -> bytes:
        """One line of a watch."""
        return b"".join((b'{"type":"', type.encode(), b'","object":', self.body(entry), b"}\n"))

    def line(self, type: str, obj: Object) -> bytes:
        """One line of a watch whose object is no entry: a bookmark's, an error's."""
        return orjson.dumps({"type": type, "object": obj}) + b"\n"


class DecodedForm(Form):
    """Base of the forms that need the object decoded."""

    def body(self, entry: Entry) -> bytes:
        return orjson.dumps(self.wire(entry, orjson.Fragment))

    def list_body(self, entries: Sequence[Entry], metadata: Object) -> bytes:
        return orjson.dumps(self.wire_list(entries, metadata, orjson.Fragment), option=orjson.OPT_APPEND_NEWLINE)


class ConvertedForm(DecodedForm):
    """Objects in a served version that is not the stored one."""

    def __init__(
        self, cache: ResourceCache, kind: str, api_version: str, convert: Callable[[Object], dict[str, Any]]
    ) -> None:
        super().__init__(cache, kind, api_version)
        self.name = f"as {kind} {api_version}"
        self._convert = convert

    def obj(self, entry: Entry) -> Object:
        return self.show(self.cache.obj(entry))

    def show(self, obj: Object) -> Object:
        out = self._convert(obj)
        out["kind"], out["apiVersion"] = self.kind, self.api_version
        return out


_CONVERTED = "deprecated.daemonset.template.generation"
"""Upstream has it as a field, and only whole DaemonSets of v1 show it as an annotation."""


class PartialForm(DecodedForm):
    """PartialObjectMetadata: for clients that only follow metadata."""

    def __init__(self, form: Form, version: str) -> None:
        super().__init__(form.cache, "PartialObjectMetadata", f"{META_GROUP}/{version}")
        self.name = f"metadata {version}" if form.name == Form.name else f"metadata {version} {form.name}"
        self._form = form

    def obj(self, entry: Entry) -> Object:
        return partial(self._form.source(entry), self.api_version)


def partial(obj: Object, api_version: str) -> dict[str, Any]:
    """The PartialObjectMetadata of an object."""
    metadata = obj["metadata"]
    if _CONVERTED in (metadata.get("annotations") or ()):
        annotations = {key: value for key, value in metadata["annotations"].items() if key != _CONVERTED}
        metadata = {key: value for key, value in metadata.items() if key != "annotations"}
        if annotations:
            metadata["annotations"] = annotations
    return {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": metadata}


class TableForm(DecodedForm):
    """Tables, as `kubectl get` prints them. `rows` makes cells; `include` is the query's includeObject."""

    def __init__(
        self,
        form: Form,
        version: str,
        definitions: Sequence[Object],
        cells: Callable[[Object], list[Any]],
        include: str,
    ) -> None:
        super().__init__(form.cache, "Table", f"{META_GROUP}/{version}")
        self.name = f"table {version} {include} {form.name}"
        self._form, self._definitions, self._cells = form, definitions, cells
        self._partial = PartialForm(form, version)
        self._include = include or "Metadata"

    def wire(self, entry: Entry, wrap: Wrap = orjson.loads) -> Object:
        metadata = {"resourceVersion": str(entry.revision)}
        return self._table(metadata, [self._row(entry, wrap)])

    def wire_list(self, entries: Sequence[Entry], metadata: Object, wrap: Wrap = orjson.loads) -> dict[str, Any]:
        return self._table(metadata, [self._row(entry, wrap) for entry in entries])

    def bookmark(self, revision: int, annotations: Object | None = None) -> dict[str, Any]:
        plain = self._form.bookmark(revision, annotations)
        shown = partial(plain, f"{META_GROUP}/v1")
        table = self._table({"resourceVersion": str(revision)}, [])
        # Upstream's bookmark is a Table whose only row has no cells worth printing.
        table["rows"] = [{"cells": ["" for _ in self._definitions], "object": shown}]
        return table

    def _table(self, metadata: Object, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "kind": "Table",
            "apiVersion": self.api_version,
            "metadata": dict(metadata),
            "columnDefinitions": list(self._definitions),
            "rows": rows,
        }

    def _row(self, entry: Entry, wrap: Wrap) -> dict[str, Any]:
        row: dict[str, Any] = {"cells": self._cells(self._form.source(entry))}
        if self._include == "Object":
            row["object"] = self._form.wire(entry, wrap)
        elif self._include == "Metadata":
            row["object"] = self._partial.wire(entry, wrap)
        else:
            row["object"] = None
        return row

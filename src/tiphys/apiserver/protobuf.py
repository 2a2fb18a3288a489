"""Objects and watch events in protobuf, encoded anew from the decoded object.

What watchers share is shared here too: a change is encoded once for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tiphys.api.protobuf.codec import builtin
from tiphys.api.protobuf.envelope import frame
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.forms import Form, Wrap


class ProtobufForm(Form):
    """Another form's objects as protobuf."""

    def __init__(self, form: Form) -> None:
        super().__init__(form.cache, form.kind, form.api_version)
        self.name = f"protobuf {form.name}"
        self._form = form

    def body(self, entry: Entry) -> bytes:
        return builtin().encode(self.wire(entry))

    def obj(self, entry: Entry) -> Mapping[str, Any]:
        return self._form.obj(entry)

    def wire(self, entry: Entry, wrap: Wrap = orjson.loads) -> Mapping[str, Any]:
        return self._form.wire(entry, wrap)

    def wire_list(
        self, entries: Sequence[Entry], metadata: Mapping[str, Any], wrap: Wrap = orjson.loads
    ) -> dict[str, Any]:
        return self._form.wire_list(entries, metadata, wrap)

    def show(self, obj: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._form.show(obj)

    def list_body(self, entries: Sequence[Entry], metadata: Mapping[str, Any]) -> bytes:
        return builtin().encode(self._form.wire_list(entries, metadata))

    def list_obj(self, entries: Sequence[Entry], metadata: Mapping[str, Any]) -> dict[str, Any]:
        return self._form.list_obj(entries, metadata)

    def bookmark(self, revision: int, annotations: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._form.bookmark(revision, annotations)

    def event(self, type: str, entry: Entry) -> bytes:
        return frame(type, self.body(entry))

    def line(self, type: str, obj: Mapping[str, Any]) -> bytes:
        return frame(type, builtin().encode(obj))

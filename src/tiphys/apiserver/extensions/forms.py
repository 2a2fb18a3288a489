"""How custom objects are shown: in the version of the request, each with its apiVersion and kind, in lists too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson

from tiphys.apiserver import codec
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.extensions.entries import CustomEntry
from tiphys.apiserver.forms import DecodedForm, Wrap

Object = Mapping[str, Any]


class Views(Protocol):
    """What a definition says about versions."""

    def plain(self, api_version: str) -> bool:
        """Whether an object of that version differs in nothing but apiVersion."""
        ...

    def converted(self, entry: CustomEntry, obj: Object) -> Object:
        """The object in the version of the form; `obj` is it as stored. Raises ApiError."""
        ...


class CustomForm(DecodedForm):
    """Objects of one served version; bytes are only joined where nothing differs but apiVersion."""

    def __init__(self, cache: ResourceCache, kind: str, list_kind: str, api_version: str, views: Views) -> None:
        super().__init__(cache, kind, api_version)
        self.name = f"as {kind} {api_version}"
        self._list_kind, self._views = list_kind, views
        self._head = codec.head(kind, api_version)

    def body(self, entry: Entry) -> bytes:
        if self._plain(entry):
            return self._head + entry.item[1:]
        return super().body(entry)

    def obj(self, entry: Entry) -> Object:
        assert isinstance(entry, CustomEntry), "custom caches hold nothing else"
        if entry.api_version == self.api_version:
            return self.cache.obj(entry)
        if self._views.plain(entry.api_version):
            return {**self.cache.obj(entry), "apiVersion": self.api_version}
        return self._views.converted(entry, self.cache.obj(entry))

    def source(self, entry: Entry) -> Object:
        return self.obj(entry)

    def list_body(self, entries: Sequence[Entry], metadata: Object) -> bytes:
        # kind and apiVersion are letters, digits and dots: nothing to escape.
        head = f'{{"apiVersion":"{self.api_version}","kind":"{self._list_kind}","metadata":'.encode()
        start, own = self._head, self.api_version
        items = [
            start + entry.item[1:] if isinstance(entry, CustomEntry) and entry.api_version == own else self.body(entry)
            for entry in entries
        ]
        return b"".join((head, orjson.dumps(metadata), b',"items":[', b",".join(items), b"]}\n"))

    def list_obj(self, entries: Sequence[Entry], metadata: Object) -> dict[str, Any]:
        items = [self.obj(entry) for entry in entries]
        return {"kind": self._list_kind, "apiVersion": self.api_version, "metadata": dict(metadata), "items": items}

    def wire_list(self, entries: Sequence[Entry], metadata: Object, wrap: Wrap = orjson.loads) -> dict[str, Any]:
        return {**self.list_obj((), metadata), "items": [self.wire(entry, wrap) for entry in entries]}

    def _plain(self, entry: Entry) -> bool:
        assert isinstance(entry, CustomEntry), "custom caches hold nothing else"
        return entry.api_version == self.api_version or self._views.plain(entry.api_version)

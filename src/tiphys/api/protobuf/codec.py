"""Objects of built-in kinds to and from application/vnd.kubernetes.protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from tiphys.api import schema
from tiphys.api.decode.objects import DecodeError, Decoder
from tiphys.api.protobuf import envelope, others, scalars
from tiphys.api.protobuf.reading import Reader
from tiphys.api.protobuf.writing import Writer
from tiphys.api.schema import Definitions
from tiphys.base.errors import BadRequest
from tiphys.base.protowire import Malformed

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
OPTIONS = ("CreateOptions", "GetOptions", "ListOptions", "PatchOptions", "UpdateOptions")
"""Kinds of meta/v1 that clients send as kinds of their own group; so are the two that the schema has too."""


class UnknownKind(ValueError):
    """A kind without messages: a custom resource, or none at all."""


class Messages:
    """What turns the messages of one set of definitions into objects and back."""

    def __init__(self, definitions: Definitions, raw: Any) -> None:
        self.definitions = definitions
        self.reader = Reader(definitions, raw)
        self.writer = Writer(definitions)
        self.decoder = Decoder(definitions)


class Protobuf:
    """Encoding and decoding for one set of definitions. Keep one: it caches functions."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._served = Messages(definitions, self._raw)
        self._others: Messages | None = None

    def knows(self, api_version: str, kind: str) -> bool:
        """Whether objects of this kind have a wire form."""
        return self._find(api_version, kind) is not None

    def parse(self, body: bytes, api_version: str = "", kind: str = "") -> dict[str, Any]:
        """What a JSON parser would give for the same object; kind and apiVersion default to those given.

        Raises Malformed, and UnknownKind (whose text is upstream's) for what has no messages."""
        found = envelope.unpack(body)
        kind = found.kind or kind
        api_version = found.api_version or api_version
        if not kind:
            raise Malformed("Object 'Kind' is missing")
        messages, name = self._required(api_version, kind)
        return {"apiVersion": api_version, "kind": kind, **messages.reader.read(name, found.raw)}

    def decode(self, body: bytes) -> dict[str, Any]:
        """The canonical object in a body. Raises BadRequest."""
        try:
            parsed = self.parse(body)
            messages, name = self._required(parsed["apiVersion"], parsed["kind"])
            obj = messages.decoder.decode(parsed, messages.definitions.type(name))
        except (Malformed, UnknownKind, DecodeError) as error:
            raise BadRequest(str(error)) from error
        return {**obj, "apiVersion": parsed["apiVersion"], "kind": parsed["kind"]}

    def encode(self, obj: Mapping[str, Any]) -> bytes:
        """The envelope of a canonical object. Raises UnknownKind, and ValueError for a value without a wire form."""
        api_version, kind = obj.get("apiVersion", ""), obj.get("kind", "")
        messages, name = self._required(api_version, kind)
        return envelope.pack(api_version, kind, messages.writer.write(name, obj))

    def message(self, type: str, obj: Mapping[str, Any]) -> bytes:
        """The message of an object of the schema's type `type`, without an envelope."""
        return self._served.writer.write(type, obj)

    def _find(self, api_version: str, kind: str) -> tuple[Messages, str] | None:
        """The name of a kind's type, and who reads and writes it."""
        group, _, version = api_version.rpartition("/")
        name = self._definitions.name_of(group, version, kind)
        if kind in ("DeleteOptions", "WatchEvent"):
            name = META + kind
        if name and self._has_numbers(name):
            return self._served, name
        name = others.kinds().get(("v1" if kind in OPTIONS else api_version, kind), "")
        if not name:
            return None
        if self._others is None:
            self._others = Messages(self._definitions.with_types(others.types()), self._raw)
        return self._others, name

    def _has_numbers(self, name: str) -> bool:
        """Types of former versions say what JSON may hold; how they are on the wire is in the other table."""
        fields = self._definitions.type(name).fields
        return all(field.number for key, field in fields.items() if key not in ("apiVersion", "kind"))

    def _required(self, api_version: str, kind: str) -> tuple[Messages, str]:
        found = self._find(api_version, kind)
        if found is None:
            scheme = "pkg/api/legacyscheme/scheme.go:30"
            raise UnknownKind(f'no kind "{kind}" is registered for version "{api_version}" in scheme "{scheme}"')
        return found

    def _raw(self, data: bytes, start: int, stop: int) -> Any:
        """An object inside a message: JSON or, from typed clients, another envelope."""
        raw = scalars.read_number(data, start, stop).get(1)
        if isinstance(raw, bytes) and raw.startswith(envelope.MAGIC):
            return self.parse(raw)
        return scalars.read_json(data, start, stop)


@cache
def builtin() -> Protobuf:
    """The codec of the built-in definitions, one a process."""
    return Protobuf(schema.builtin())


def decode(body: bytes) -> dict[str, Any]:
    """The canonical object in a body of a built-in kind. Raises BadRequest."""
    return builtin().decode(body)


def encode(obj: Mapping[str, Any]) -> bytes:
    """The body of a canonical object of a built-in kind. Raises UnknownKind."""
    return builtin().encode(obj)

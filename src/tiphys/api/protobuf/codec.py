"""Objects of built-in kinds to and from application/vnd.kubernetes.protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from tiphys.api import schema
from tiphys.api.decode.objects import DecodeError, Decoder
from tiphys.api.protobuf import envelope, scalars
from tiphys.api.protobuf.reading import Reader
from tiphys.api.protobuf.wire import Malformed
from tiphys.api.protobuf.writing import Writer
from tiphys.api.schema import Definitions
from tiphys.base.errors import BadRequest

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
EVERYWHERE = ("DeleteOptions", "WatchEvent")
"""Kinds of meta/v1 that clients send as kinds of their own group."""


class UnknownKind(ValueError):
    """A kind without messages: a custom resource, or none at all."""


class Protobuf:
    """Encoding and decoding for one set of definitions. Keep one: it caches functions."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._reader = Reader(definitions, self._raw)
        self._writer = Writer(definitions)
        self._canonical = Decoder(definitions)

    def knows(self, api_version: str, kind: str) -> bool:
        """Whether objects of this kind have a wire form."""
        return bool(self._name(api_version, kind))

    def parse(self, body: bytes, api_version: str = "", kind: str = "") -> dict[str, Any]:
        """What a JSON parser would give for the same object; kind and apiVersion default to those given.

        Raises Malformed, and UnknownKind (whose text is upstream's) for what has no messages."""
        found = envelope.unpack(body)
        kind = found.kind or kind
        api_version = found.api_version or api_version
        if not kind:
            raise Malformed("Object 'Kind' is missing")
        out: dict[str, Any] = {"apiVersion": api_version, "kind": kind}
        out.update(self._reader.read(self._required(api_version, kind), found.raw))
        return out

    def decode(self, body: bytes) -> dict[str, Any]:
        """The canonical object in a body. Raises BadRequest."""
        try:
            parsed = self.parse(body)
            type = self._definitions.type(self._required(parsed["apiVersion"], parsed["kind"]))
            obj = self._canonical.decode(parsed, type)
        except (Malformed, UnknownKind, DecodeError) as error:
            raise BadRequest(str(error)) from error
        return {**obj, "apiVersion": parsed["apiVersion"], "kind": parsed["kind"]}

    def encode(self, obj: Mapping[str, Any]) -> bytes:
        """The envelope of a canonical object. Raises UnknownKind, and ValueError for a value without a wire form."""
        api_version, kind = obj.get("apiVersion", ""), obj.get("kind", "")
        return envelope.pack(api_version, kind, self.message(self._required(api_version, kind), obj))

    def message(self, type: str, obj: Mapping[str, Any]) -> bytes:
        """The message of an object of the schema's type `type`, without an envelope."""
        return self._writer.write(type, obj)

    def _name(self, api_version: str, kind: str) -> str:
        if kind in EVERYWHERE:
            return META + kind
        group, _, version = api_version.rpartition("/")
        return self._definitions.name_of(group, version, kind)

    def _required(self, api_version: str, kind: str) -> str:
        name = self._name(api_version, kind)
        if not name:
            raise UnknownKind(f'no kind "{kind}" is registered for version "{api_version}"')
        return name

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

"""Objects to messages, byte for byte as upstream's generated code writes them.

Fields come in the order of their numbers. Pointers, lists and maps that are not set are left out; every other value is
written even when it is empty, structs too. Map entries are sorted by key and always hold both fields. One plain
function a type, built on first use; objects must be in canonical form (tiphys.api.decode).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tiphys.api.protobuf import scalars
from tiphys.api.protobuf.reading import JSON_SCHEMA
from tiphys.api.schema import Definitions, Field, Shape
from tiphys.base.protowire import BYTES, FIXED64, VARINT, delimited, number, tag

Object = Mapping[str, Any]
Encode = Callable[[Any], bytes]
Add = Callable[[bytes], None]
Write = Callable[[Object, Add], None]


def _double(value: float) -> bytes:
    return struct.pack("<d", value)


_FIXED: dict[str, tuple[int, Encode, bytes]] = {
    "int32": (VARINT, number, b"\0"),
    "int64": (VARINT, number, b"\0"),
    "boolean": (VARINT, number, b"\0"),
    "number": (FIXED64, _double, bytes(8)),
}


class Writer:
    """Message functions by type name."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._built: dict[str, Encode] = {}

    def write(self, name: str, obj: Object) -> bytes:
        """The message of an object of the type `name`. Raises ValueError for a value that has no wire form."""
        return self.of(name)(obj)

    def of(self, name: str) -> Encode:
        found = self._built.get(name)
        if found is None:
            fields = self._definitions.type(name).fields.values()
            paths = [(tuple(map(int, field.number.split("."))), field) for field in fields if field.number]
            found = self._built[name] = self._message(paths)
        return found

    def _message(self, fields: Iterable[tuple[tuple[int, ...], Field]]) -> Encode:
        writes: dict[int, Write] = {}
        embedded: dict[int, list[tuple[tuple[int, ...], Field]]] = {}
        for (position, *rest), field in fields:
            if rest:
                embedded.setdefault(position, []).append((tuple(rest), field))
            else:
                writes[position] = self._field(position, field)
        for position, inner in embedded.items():
            writes[position] = _embedded(tag(position, BYTES), self._message(inner))
        return _all([writes[position] for position in sorted(writes)])

    def _field(self, position: int, field: Field) -> Write:
        shape, name = field.shape, field.name
        if shape.kind == "map":
            return _map(name, tag(position, BYTES), self._entry(_items(shape)))
        if shape.kind == "array":
            items = _items(shape)
            kind, encode = self._value(items)
            return _repeated(name, tag(position, kind), encode)
        kind, encode = self._value(shape)
        start = tag(position, kind)
        if field.pointer or shape.kind == "bytes":
            return _optional(name, start, encode)
        if shape.kind == "string":
            return _string(name, start)
        if shape.kind == "object":
            return _struct(name, start, self, shape.type)
        if shape.kind in _FIXED:
            return _plain(name, start, encode, start + _FIXED[shape.kind][2])
        return _always(name, start, encode)

    def _value(self, shape: Shape) -> tuple[int, Encode]:
        """The wire type of one value and the function that writes it, with its length where it has one."""
        if shape.kind in _FIXED:
            return _FIXED[shape.kind][:2]
        encode = self.encoder(shape)
        return BYTES, lambda value: delimited(encode(value))

    def encoder(self, shape: Shape) -> Encode:
        """The function that writes one length-delimited value, without its length."""
        if shape.kind == "object":
            return lambda value: self.of(shape.type)(value or {})
        if shape.kind == "array":
            return self._wrapped(shape)
        union = shape.type.rpartition(".")[2] if shape.kind == "any" else ""
        if union.startswith("JSONSchemaPropsOr"):
            return self._union(union)
        return scalars.WRITE[shape.kind]

    def _wrapped(self, shape: Shape) -> Encode:
        """A list in a map: a message whose field 1 is the list."""
        message = self._message([((1,), Field("items", shape))])
        return lambda value: message({"items": value})

    def _entry(self, values: Shape) -> Encode:
        kind, encode = self._value(values)
        start = tag(2, kind)
        if values.kind == "bytes":
            return lambda value: b"" if value is None else start + encode(value)
        return lambda value: start + encode(value)

    def _union(self, union: str) -> Encode:
        def schema(value: Any) -> bytes:
            return delimited(self.of(JSON_SCHEMA)(value))

        def either(value: Any) -> bytes:
            if isinstance(value, dict):
                allows = b"\x08\x01\x12" if union == "JSONSchemaPropsOrBool" else b"\x0a"
                return allows + schema(value)
            if isinstance(value, list):
                alternatives = (delimited(one.encode()) if isinstance(one, str) else schema(one) for one in value)
                return b"".join(b"\x12" + one for one in alternatives)
            return b"\x08" + number(bool(value)) if union == "JSONSchemaPropsOrBool" else b""

        return either


def _items(shape: Shape) -> Shape:
    assert shape.items is not None, "arrays and maps have items"
    return shape.items


def _all(writes: list[Write]) -> Encode:
    def encode(obj: Object) -> bytes:
        parts: list[bytes] = []
        add = parts.append
        for write in writes:
            write(obj, add)
        return b"".join(parts)

    return encode


def _embedded(start: bytes, message: Encode) -> Write:
    def write(obj: Object, add: Add) -> None:
        add(start + delimited(message(obj)))

    return write


def _optional(name: str, start: bytes, encode: Encode) -> Write:
    def write(obj: Object, add: Add) -> None:
        value = obj.get(name)
        if value is not None:
            add(start + encode(value))

    return write


def _string(name: str, start: bytes) -> Write:
    empty = start + b"\0"

    def write(obj: Object, add: Add) -> None:
        value = obj.get(name)
        add(start + delimited(scalars.write_string(value)) if value else empty)

    return write


def _plain(name: str, start: bytes, encode: Encode, zero: bytes) -> Write:
    def write(obj: Object, add: Add) -> None:
        value = obj.get(name)
        add(start + encode(value) if value else zero)

    return write


def _always(name: str, start: bytes, encode: Encode) -> Write:
    def write(obj: Object, add: Add) -> None:
        add(start + encode(obj.get(name)))

    return write


def _struct(name: str, start: bytes, writer: Writer, type: str) -> Write:
    """A struct that is not set is written as what it is when nothing in it is set."""
    empty: bytes | None = None

    def write(obj: Object, add: Add) -> None:
        nonlocal empty
        value = obj.get(name)
        if value:
            add(start + delimited(writer.of(type)(value)))
            return
        if empty is None:
            empty = start + delimited(writer.of(type)({}))
        add(empty)

    return write


def _repeated(name: str, start: bytes, encode: Encode) -> Write:
    def write(obj: Object, add: Add) -> None:
        for value in obj.get(name) or ():
            add(start + encode(value))

    return write


def _map(name: str, start: bytes, encode: Encode) -> Write:
    def write(obj: Object, add: Add) -> None:
        values = obj.get(name)
        if values:
            for key in sorted(values):
                add(start + delimited(b"\x0a" + delimited(scalars.write_string(key)) + encode(values[key])))

    return write

"""Protobuf messages as tables: a message is a dict, its type a table of field numbers and kinds.

    DEVICE = Message(ID=(1, STRING), health=(2, STRING))
    encode(DEVICE, {"ID": "a"}) -> b"..."      decode(DEVICE, b"...") -> {"ID": "a", "health": ""}

For the small protocols of the node (device plugins, CRI ...), whose fields are few and fixed. A decoded message has
all its fields: scalars as proto3 defaults, repeated ones as lists, maps as dicts, messages as None when absent.
Source: protobuf.dev, Encoding and Language Guide (proto3).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from tiphys.base.protowire import BYTES, FIXED64, VARINT, Malformed, delimited, number, signed, skip, span, tag, varint

STRING, RAW, BOOL, INT32, INT64, UINT32, UINT64, ENUM, DOUBLE = (
    "string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "enum", "double",
)  # fmt: skip
_DEFAULTS: Mapping[str, Any] = {STRING: "", RAW: b"", BOOL: False, DOUBLE: 0.0}
_BITS = {INT32: 32, INT64: 64, ENUM: 32}


@dataclass(frozen=True, slots=True)
class Repeated:
    """A repeated field of `kind`."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map with keys of the scalar kind `key`."""

    value: Kind
    key: str = STRING


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    number: int
    kind: Any


class Message:
    """The type of a message: `name=(number, kind)` for each field."""

    __slots__ = ("by_number", "fields")

    def __init__(self, **fields: tuple[int, Kind]) -> None:
        self.fields = tuple(Field(name, number, kind) for name, (number, kind) in fields.items())
        self.by_number = {field.number: field for field in self.fields}


Kind = str | Message | Repeated | MapOf


def encode(message: Message, value: Mapping[str, Any]) -> bytes:
    """Fields that are absent, None or default are left out. Raises KeyError for a name that the type lacks."""
    if unknown := set(value) - {field.name for field in message.fields}:
        raise KeyError(f"no such fields: {', '.join(sorted(unknown))}")
    return b"".join(_field(field.number, field.kind, value.get(field.name)) for field in message.fields)


def _field(place: int, kind: Any, value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(kind, Repeated):
        if _packs(kind.kind):
            body = b"".join(_scalar(kind.kind, item)[1] for item in value)
            return tag(place, BYTES) + delimited(body) if body else b""
        return b"".join(_one(place, kind.kind, item) for item in value)
    if isinstance(kind, MapOf):
        return b"".join(_entry(place, kind, *pair) for pair in value.items())
    if not isinstance(kind, Message) and value == _DEFAULTS.get(kind, 0):
        return b""
    return _one(place, kind, value)


def _packs(kind: Any) -> TypeGuard[str]:
    return isinstance(kind, str) and kind not in (STRING, RAW)


def _entry(place: int, kind: MapOf, key: Any, value: Any) -> bytes:
    return tag(place, BYTES) + delimited(_one(1, kind.key, key) + _one(2, kind.value, value))


def _one(place: int, kind: Any, value: Any) -> bytes:
    if isinstance(kind, Message):
        return tag(place, BYTES) + delimited(encode(kind, value))
    wire_type, data = _scalar(kind, value)
    return tag(place, wire_type) + data


def _scalar(kind: str, value: Any) -> tuple[int, bytes]:
    """Its wire type and its bytes."""
    if kind == STRING:
        return BYTES, delimited(str(value).encode("utf-8", "surrogateescape"))
    if kind == RAW:
        return BYTES, delimited(value)
    if kind == DOUBLE:
        return FIXED64, struct.pack("<d", value)
    return VARINT, number(int(value))


def empty(message: Message) -> dict[str, Any]:
    """A message in which nothing is set."""
    return {field.name: _absent(field.kind) for field in message.fields}


def _absent(kind: Any) -> Any:
    if isinstance(kind, Repeated):
        return []
    if isinstance(kind, MapOf):
        return {}
    return None if isinstance(kind, Message) else _DEFAULTS.get(kind, 0)


def decode(message: Message, data: bytes) -> dict[str, Any]:
    """Unknown fields are skipped. Raises Malformed."""
    return _decode(message, data, 0, len(data))


def _decode(message: Message, data: bytes, position: int, end: int) -> dict[str, Any]:
    found = empty(message)
    while position < end:
        head, position = varint(data, position, end)
        field, wire_type = message.by_number.get(head >> 3), head & 7
        if field is None:
            position = skip(data, position, end, wire_type)
            continue
        position = _take(found, field, data, position, end, wire_type)
    return found


def _take(found: dict[str, Any], field: Field, data: bytes, position: int, end: int, wire_type: int) -> int:
    kind = field.kind
    if isinstance(kind, Repeated):
        if wire_type == BYTES and _packs(kind.kind):
            start, stop = span(data, position, end)
            found[field.name].extend(_packed(kind.kind, data, start, stop))
            return stop
        value, position = _value(kind.kind, data, position, end, wire_type)
        found[field.name].append(value)
        return position
    if isinstance(kind, MapOf):
        pair = Message(key=(1, kind.key), value=(2, kind.value))
        entry, position = _value(pair, data, position, end, wire_type)
        value = entry["value"]
        found[field.name][entry["key"]] = (
            empty(kind.value) if value is None and isinstance(kind.value, Message) else value
        )
        return position
    found[field.name], position = _value(kind, data, position, end, wire_type)
    return position


def _packed(kind: str, data: bytes, position: int, stop: int) -> Iterable[Any]:
    wire_type = FIXED64 if kind == DOUBLE else VARINT
    while position < stop:
        value, position = _value(kind, data, position, stop, wire_type)
        yield value


def _value(kind: Any, data: bytes, position: int, end: int, wire_type: int) -> tuple[Any, int]:
    if isinstance(kind, Message) or kind in (STRING, RAW):
        _expect(wire_type, BYTES)
        start, stop = span(data, position, end)
        if isinstance(kind, Message):
            return _decode(kind, data, start, stop), stop
        piece = data[start:stop]
        return (piece.decode("utf-8", "replace") if kind == STRING else piece), stop
    if kind == DOUBLE:
        _expect(wire_type, FIXED64)
        if position + 8 > end:
            raise Malformed("unexpected EOF")
        return struct.unpack_from("<d", data, position)[0], position + 8
    _expect(wire_type, VARINT)
    value, position = varint(data, position, end)
    if kind == BOOL:
        return bool(value), position
    return (signed(value, _BITS[kind]) if kind in _BITS else value), position


def _expect(wire_type: int, wanted: int) -> None:
    if wire_type != wanted:
        raise Malformed(f"proto: wrong wireType = {wire_type}")

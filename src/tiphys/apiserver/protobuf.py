"""Bodies in application/vnd.kubernetes.protobuf: from the wire to plain JSON values, by the schema's field numbers.

kubectl's and client-go's typed clients send what they create this way. Only decoding is here: answers are JSON,
which the same clients accept. The envelope is `k8s\\0` and a runtime.Unknown; scalars follow proto2.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any

import orjson

from tiphys.api.catalog import split_group_version
from tiphys.api.schema import Definitions, Field, Shape, Type
from tiphys.base.clock import rfc3339, rfc3339_micro
from tiphys.base.errors import BadRequest

MEDIA = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Value = int | bytes
SCHEMA = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"


class Malformed(ValueError):
    """The bytes are not what their schema says."""


def decode(body: bytes, definitions: Definitions) -> dict[str, Any]:
    """The object in an envelope, with apiVersion and kind. Raises BadRequest."""
    try:
        return _envelope(body, definitions)
    except (Malformed, IndexError, struct.error, UnicodeDecodeError, orjson.JSONDecodeError) as error:
        raise BadRequest(f"the protobuf body cannot be decoded: {error or 'it is cut short'}") from error


def _envelope(body: bytes, definitions: Definitions) -> dict[str, Any]:
    if not body.startswith(MAGIC):
        raise Malformed("it does not begin with the Kubernetes prefix")
    api_version = kind = ""
    raw = b""
    for number, value in fields(body[len(MAGIC) :]):
        if number == 1:
            meta = dict(fields(_bytes(value)))
            api_version, kind = (_bytes(meta.get(field, b"")).decode() for field in (1, 2))
        elif number == 2:
            raw = _bytes(value)
    type = definitions.of(*split_group_version(api_version), kind)
    if type is None:
        raise Malformed(f'no kind "{kind}" is registered for version "{api_version}"')
    return {"apiVersion": api_version, "kind": kind, **Reader(definitions).message(raw, type)}


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(number, value) of a message: varints as unsigned numbers, everything else as its bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == BYTES:
            size, at = _varint(data, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise Malformed(f"wire type {wire}")
        if at + size > end:
            raise Malformed("it is cut short")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise Malformed("a number is too long")


class Reader:
    """Messages to JSON objects."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._numbers: dict[str, dict[str, Field]] = {}

    def message(self, data: bytes, type: Type) -> dict[str, Any]:
        """The fields of one message; unknown ones are skipped, as by every protobuf reader."""
        out: dict[str, Any] = {}
        self._read(data, self._of(type), "", out)
        return out

    def _of(self, type: Type) -> dict[str, Field]:
        found = self._numbers.get(type.name)
        if found is None:
            found = {field.number: field for field in type.fields.values() if field.number}
            self._numbers[type.name] = found
        return found

    def _read(self, data: bytes, numbers: dict[str, Field], prefix: str, out: dict[str, Any]) -> None:
        for number, value in fields(data):
            path = f"{prefix}{number}"
            field = numbers.get(path)
            if field is not None:
                self._put(out, field, value)
            elif isinstance(value, bytes) and any(key.startswith(path + ".") for key in numbers):
                self._read(value, numbers, path + ".", out)

    def _put(self, out: dict[str, Any], field: Field, value: Value) -> None:
        shape = field.shape
        if shape.kind == "map" and shape.items is not None:
            key, item = self._entry(_bytes(value), shape.items)
            out.setdefault(field.name, {})[key] = item
        elif shape.kind == "array" and shape.items is not None:
            out.setdefault(field.name, []).extend(self._items(value, shape.items))
        else:
            out[field.name] = self.value(value, shape)

    def _entry(self, data: bytes, shape: Shape) -> tuple[str, Any]:
        found = dict(fields(data))
        return _bytes(found.get(1, b"")).decode(), self.value(found.get(2, b""), shape)

    def _items(self, value: Value, shape: Shape) -> Iterator[Any]:
        if shape.kind in ("int32", "int64", "boolean") and isinstance(value, bytes):
            at = 0
            while at < len(value):
                number, at = _varint(value, at)
                yield self.value(number, shape)
        else:
            yield self.value(value, shape)

    def value(self, value: Value, shape: Shape) -> Any:
        """One value of a shape."""
        kind = shape.kind
        if kind == "object":
            return self.message(_bytes(value), self._definitions.type(shape.type))
        if kind in ("int32", "int64"):
            return _signed(value)
        if kind == "boolean":
            return bool(_signed(value))
        if kind == "array" and shape.items is not None:
            # A list inside a map is a message whose only field is the list.
            return [one for _, item in fields(_bytes(value)) for one in self._items(item, shape.items)]
        read = _READERS.get(kind)
        if read is not None:
            return read(_bytes(value))
        if kind in ("raw", "any"):
            return self._raw(_bytes(value), shape)
        raise Malformed(f"a field of kind {kind}")

    def _raw(self, data: bytes, shape: Shape) -> Any:
        """JSON inside protobuf; JSON schemas have messages for what JSON says by its type."""
        name, found = shape.type.rpartition(".")[2], list(fields(data))
        if name == "JSONSchemaPropsOrStringArray":
            texts = [_bytes(value).decode() for number, value in found if number == 2]
            schemas = [value for number, value in found if number == 1]
            return self._schema(schemas[0]) if schemas else texts
        if name == "JSONSchemaPropsOrBool":
            values = dict(found)
            return self._schema(values[2]) if 2 in values else bool(values.get(1, 0))
        if name == "JSONSchemaPropsOrArray":
            single = [self._schema(value) for number, value in found if number == 1]
            return single[0] if single else [self._schema(value) for number, value in found if number == 2]
        raw = next((_bytes(value) for number, value in found if number == 1), b"")
        return orjson.loads(raw) if raw else None

    def _schema(self, value: Value) -> dict[str, Any]:
        return self.message(_bytes(value), self._definitions.type(SCHEMA))


def _bytes(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    raise Malformed("a number where bytes belong")


def _signed(value: Value) -> int:
    if isinstance(value, bytes):
        raise Malformed("bytes where a number belongs")
    return value - (1 << 64) if value >= 1 << 63 else value


def _time(data: bytes) -> tuple[int, int] | None:
    found = dict(fields(data))
    return (_signed(found.get(1, 0)), _signed(found.get(2, 0))) if found else None


def _seconds(data: bytes) -> str | None:
    time = _time(data)
    return rfc3339(time[0]) if time is not None else None


def _micros(data: bytes) -> str | None:
    time = _time(data)
    return rfc3339_micro(time[0] + time[1] // 1000 / 1e6) if time is not None else None


def _int_or_string(data: bytes) -> int | str:
    found = dict(fields(data))
    if found.get(1):
        return _bytes(found.get(3, b"")).decode()
    # An int32, which proto2 writes as a 64-bit varint.
    return _signed(found.get(2, 0))


def _quantity(data: bytes) -> str:
    return _bytes(dict(fields(data)).get(1, b"")).decode()


_READERS: dict[str, Any] = {
    "string": bytes.decode,
    "bytes": lambda data: base64.b64encode(data).decode(),
    "number": lambda data: struct.unpack("<d", data)[0],
    "quantity": _quantity,
    "time": _seconds,
    "micro-time": _micros,
    "int-or-string": _int_or_string,
}

"""Messages to parsed objects: one plain function a type, built on first use from the schema's field numbers.

What a `Reader` gives is what a JSON parser would have given for the same object: fields that were on the wire, by
their JSON names. Empty values are still there; tiphys.api.decode takes them out and fills in what is always written.

A message function takes (data, start, end, out) and fills `out`; a field function takes the same and returns where its
value ends. Values may lie past `end` by mistake: the message's loop notices.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

from tiphys.api.protobuf import scalars
from tiphys.api.schema import Definitions, Field, Shape
from tiphys.base.protowire import BYTES, FIXED64, VARINT, Malformed, signed, skip, span, varint

Object = dict[str, Any]
Fill = Callable[[bytes, int, int, Object], None]
Read = Callable[[bytes, int, int, Object], int]
Convert = Callable[[bytes, int, int], Any]

EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
JSON_SCHEMA = EXTENSIONS + "JSONSchemaProps"
_UNSEEN = (JSON_SCHEMA, EXTENSIONS + "ExternalDocumentation", EXTENSIONS + "ValidationRule")
"""Types inside JSONSchemaPropsOrBool and its like, which decoding takes for any JSON: what is empty goes here."""
_INTEGERS: dict[str, Callable[[int], Any]] = {
    "int32": lambda value: signed(value, 32),
    "int64": lambda value: signed(value, 64),
    "boolean": bool,
}


class Reader:
    """Message functions by type name."""

    def __init__(self, definitions: Definitions, raw: Convert = scalars.read_json) -> None:
        self._definitions = definitions
        self._raw = raw
        self._built: dict[str, Fill] = {}

    def read(self, name: str, data: bytes) -> Object:
        """The object in a message of the type `name`. Raises Malformed."""
        out: Object = {}
        try:
            self.of(name)(data, 0, len(data), out)
        except IndexError:
            raise Malformed("unexpected EOF") from None
        except RecursionError:
            raise Malformed("proto: messages are nested too deep") from None
        return out

    def of(self, name: str) -> Fill:
        found = self._built.get(name)
        if found is None:
            fields = self._definitions.type(name).fields.values()
            found = self._message([(_path(field), field) for field in fields if field.number])
            if name in _UNSEEN:
                found = _pruned(found, [field.name for field in fields if not field.pointer and not field.always])
            self._built[name] = found
        return found

    def _message(self, fields: Iterable[tuple[tuple[int, ...], Field]]) -> Fill:
        reads: dict[int, Read] = {}
        names: dict[int, str] = {}
        embedded: dict[int, list[tuple[tuple[int, ...], Field]]] = {}
        for (number, *rest), field in fields:
            names[number] = field.name
            if rest:
                embedded.setdefault(number, []).append((tuple(rest), field))
            else:
                for kind, read in self._field(field):
                    reads[number << 3 | kind] = read
        for number, inner in embedded.items():
            reads[number << 3 | BYTES] = _embedded(self._message(inner))
        return _fill(reads, names)

    def _field(self, field: Field) -> Iterable[tuple[int, Read]]:
        """Wire types and the functions that read the field from them."""
        shape, name = field.shape, field.name
        if shape.kind == "map":
            return ((BYTES, self._map(name, _items(shape))),)
        if shape.kind == "array":
            return self._repeated(name, _items(shape))
        if shape.kind in _INTEGERS:
            return ((VARINT, _varint(name, _INTEGERS[shape.kind])),)
        if shape.kind == "number":
            return ((FIXED64, _double(name)),)
        if shape.kind == "object":
            return ((BYTES, self._object(name, shape.type)),)
        return ((BYTES, _string(name) if shape.kind == "string" else _delimited(name, self.converter(shape))),)

    def converter(self, shape: Shape) -> Convert:
        """The function that reads one length-delimited value."""
        if shape.kind == "object":
            return self._converted(shape.type)
        if shape.kind == "array":
            return self._wrapped(_items(shape))
        if shape.kind == "raw":
            return self._raw
        union = shape.type.rpartition(".")[2] if shape.kind == "any" else ""
        return self._union(union) if union.startswith("JSONSchemaPropsOr") else scalars.READ[shape.kind]

    def _converted(self, name: str) -> Convert:
        def convert(data: bytes, start: int, stop: int) -> Object:
            out: Object = {}
            self.of(name)(data, start, stop, out)
            return out

        return convert

    def _object(self, field: str, name: str) -> Read:
        """A message in a message. One that comes twice is merged."""
        fill: Fill | None = None

        def read(data: bytes, position: int, end: int, out: Object) -> int:
            nonlocal fill
            if fill is None:
                fill = self.of(name)
            start, stop = span(data, position, end)
            found = out.get(field)
            if found is None:
                found = out[field] = {}
            fill(data, start, stop, found)
            return stop

        return read

    def _wrapped(self, items: Shape) -> Convert:
        """Maps cannot hold lists: a message whose field 1 is the list stands for it (ExtraValue)."""
        fill = _fill({1 << 3 | kind: read for kind, read in self._repeated("items", items)}, {1: "items"})

        def convert(data: bytes, start: int, stop: int) -> list[Any]:
            out: Object = {}
            fill(data, start, stop, out)
            found: list[Any] = out.get("items", [])
            return found

        return convert

    def _repeated(self, name: str, items: Shape) -> Iterable[tuple[int, Read]]:
        change = _INTEGERS.get(items.kind)
        if change is None:
            return ((BYTES, _appended(name, self.converter(items))),)
        return ((VARINT, _appended_varint(name, change)), (BYTES, _packed(name, change)))

    def _map(self, name: str, values: Shape) -> Read:
        value = self._field(Field("value", values)) if values.kind != "array" else ()
        value = value or ((BYTES, _delimited("value", self.converter(values))),)
        reads = {1 << 3 | BYTES: _string("key"), **{2 << 3 | kind: read for kind, read in value}}
        fill = _fill(reads, {1: "key", 2: "value"})
        missing: Any = {"bytes": "", "array": []}.get(values.kind)

        def read(data: bytes, position: int, end: int, out: Object) -> int:
            start, stop = span(data, position, end)
            entry: Object = {}
            fill(data, start, stop, entry)
            found = out.get(name)
            if found is None:
                found = out[name] = {}
            found[entry.get("key", "")] = entry.get("value", missing)
            return stop

        return read

    def _union(self, union: str) -> Convert:
        """JSONSchemaPropsOrArray, OrBool and OrStringArray: messages of their alternatives."""
        schema = (BYTES, self._object("schema", JSON_SCHEMA))
        other = {
            "JSONSchemaPropsOrArray": (BYTES, _appended("other", self._converted(JSON_SCHEMA))),
            "JSONSchemaPropsOrBool": (VARINT, _varint("other", bool)),
            "JSONSchemaPropsOrStringArray": (BYTES, _appended("other", scalars.read_string)),
        }[union]
        first, second = (other, schema) if union == "JSONSchemaPropsOrBool" else (schema, other)
        fill = _fill({1 << 3 | first[0]: first[1], 2 << 3 | second[0]: second[1]}, {1: union, 2: union})

        def convert(data: bytes, start: int, stop: int) -> Any:
            out: Object = {}
            fill(data, start, stop, out)
            if "schema" in out and not isinstance(out.get("other"), list):
                return out["schema"]
            return out.get("other")

        return convert


def _path(field: Field) -> tuple[int, ...]:
    return tuple(map(int, field.number.split(".")))


def _items(shape: Shape) -> Shape:
    assert shape.items is not None, "arrays and maps have items"
    return shape.items


def _fill(reads: dict[int, Read], names: dict[int, str]) -> Fill:
    """The loop over a message's fields."""

    def fill(data: bytes, position: int, end: int, out: Object) -> None:
        while position < end:
            tag = data[position]
            if tag < 128:
                position += 1
            else:
                tag, position = varint(data, position, end)
            read = reads.get(tag)
            if read is not None:
                position = read(data, position, end, out)
                continue
            if tag >> 3 in names:
                raise Malformed(f"proto: wrong wireType = {tag & 7} for field {names[tag >> 3]}")
            if tag < 8:
                raise Malformed(f"proto: illegal tag {tag >> 3} (wire type {tag & 7})")
            position = skip(data, position, end, tag & 7)
        if position > end:
            raise Malformed("unexpected EOF")

    return fill


def _pruned(fill: Fill, names: list[str]) -> Fill:
    """`fill`, and then the fields `names` are left out where they are empty."""

    def pruned(data: bytes, position: int, end: int, out: Object) -> None:
        fill(data, position, end, out)
        for name in names:
            if name in out and not out[name]:
                del out[name]

    return pruned


def _embedded(fill: Fill) -> Read:
    """The fields of an embedded struct stand among those of its holder."""

    def read(data: bytes, position: int, end: int, out: Object) -> int:
        start, stop = span(data, position, end)
        fill(data, start, stop, out)
        return stop

    return read


def _string(name: str) -> Read:
    def read(data: bytes, position: int, end: int, out: Object) -> int:
        length = data[position]
        if length < 128:
            start = position + 1
            stop = start + length
            if stop > end:
                raise Malformed("unexpected EOF")
        else:
            start, stop = span(data, position, end)
        out[name] = data[start:stop].decode("utf-8", "replace")
        return stop

    return read


def _delimited(name: str, convert: Convert) -> Read:
    def read(data: bytes, position: int, end: int, out: Object) -> int:
        start, stop = span(data, position, end)
        out[name] = convert(data, start, stop)
        return stop

    return read


def _varint(name: str, change: Callable[[int], Any]) -> Read:
    def read(data: bytes, position: int, end: int, out: Object) -> int:
        value = data[position]
        if value < 128:
            position += 1
        else:
            value, position = varint(data, position, end)
        out[name] = change(value)
        return position

    return read


def _double(name: str) -> Read:
    def read(data: bytes, position: int, end: int, out: Object) -> int:
        if position + 8 > end:
            raise Malformed("unexpected EOF")
        value = struct.unpack_from("<d", data, position)[0]
        if value - value != 0:
            raise Malformed(f"json: unsupported value: {value}")
        out[name] = value
        return position + 8

    return read


def _appended(name: str, convert: Convert) -> Read:
    def read(data: bytes, position: int, end: int, out: Object) -> int:
        start, stop = span(data, position, end)
        value = convert(data, start, stop)
        found = out.get(name)
        if found is None:
            out[name] = [value]
        else:
            found.append(value)
        return stop

    return read


def _appended_varint(name: str, change: Callable[[int], Any]) -> Read:
    def read(data: bytes, position: int, end: int, out: Object) -> int:
        value, position = varint(data, position, end)
        out.setdefault(name, []).append(change(value))
        return position

    return read


def _packed(name: str, change: Callable[[int], Any]) -> Read:
    def read(data: bytes, position: int, end: int, out: Object) -> int:
        start, stop = span(data, position, end)
        found = out.setdefault(name, [])
        while start < stop:
            value, start = varint(data, start, stop)
            found.append(change(value))
        return stop

    return read

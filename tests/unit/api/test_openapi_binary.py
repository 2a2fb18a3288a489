"""Swagger in protobuf, against bytes written by hand from the message's definition."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.openapi import binary


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 0x7F | 0x80, value >> 7])


def field(place: int, data: bytes) -> bytes:
    return varint(place << 3 | 2) + varint(len(data)) + data


def named(name: bytes, value: bytes) -> bytes:
    return field(1, field(1, name) + field(2, value))


REF = field(1, b"#/definitions/A")
VENDOR = field(31, field(1, b"x-a") + field(2, field(2, b'[{"b":"c"}]')))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"$ref": "#/definitions/A"}, REF),
        (
            {"type": "object", "required": ["a", "b"]},
            field(22, field(1, b"object")) + field(19, b"a") + field(19, b"b"),
        ),
        ({"items": {"$ref": "#/definitions/A"}}, field(23, field(1, REF))),
        ({"additionalProperties": {"$ref": "#/definitions/A"}}, field(21, field(1, REF))),
        ({"additionalProperties": True}, field(21, b"\x10\x01")),
        ({"properties": {"p": {"format": "int32"}}}, field(25, named(b"p", field(2, b"int32")))),
        ({"x-a": [{"b": "c"}]}, VENDOR),
        ({"minimum": 1, "maxLength": 300, "readOnly": True, "enum": ["x"]}, None),
    ],
)
def test_a_schema(schema: dict[str, Any], expected: bytes | None) -> None:
    if expected is None:
        expected = b"\x49" + b"\0\0\0\0\0\0\xf0\x3f" + b"\x58\xac\x02" + b"\xd8\x01\x01" + field(20, field(2, b'"x"'))
    document = binary.encode({"swagger": "2.0", "definitions": {"A": schema}})
    assert document == field(1, b"2.0") + field(9, named(b"A", expected))


def test_an_operation() -> None:
    operation = {
        "operationId": "o",
        "parameters": [
            {"in": "body", "name": "b", "required": True, "schema": {"$ref": "#/definitions/A"}},
            {"in": "query", "name": "q", "type": "string", "uniqueItems": True},
            {"in": "path", "name": "p", "required": True, "type": "string"},
        ],
        "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/A"}}},
    }
    body = field(1, field(1, field(3, b"body") + field(2, b"b") + b"\x20\x01" + field(5, REF)))
    query = field(2, b"query") + field(4, b"q") + field(6, b"string") + b"\xa0\x01\x01"
    path = field(2, b"path") + field(4, b"p") + b"\x08\x01" + field(5, b"string")
    parameters = [body, field(1, field(2, field(3, query))), field(1, field(2, field(4, path)))]
    answer = field(1, field(1, b"OK") + field(2, field(1, REF)))
    encoded = field(5, b"o") + b"".join(field(8, one) for one in parameters) + field(9, named(b"200", answer))
    expected = field(8, field(2, field(1, b"/x") + field(2, field(2, encoded))))
    assert binary.encode({"paths": {"/x": {"get": operation}}}) == expected


def test_security() -> None:
    definition = {"type": "apiKey", "name": "authorization", "in": "header", "description": "d"}
    document = {"securityDefinitions": {"T": definition}, "security": [{"T": []}]}
    key = field(1, b"apiKey") + field(2, b"authorization") + field(3, b"header") + field(4, b"d")
    assert binary.encode(document) == field(13, named(b"T", field(2, key))) + field(12, named(b"T", b""))

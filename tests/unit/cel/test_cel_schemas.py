"""Types and values from OpenAPI schemas."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tiphys.api.cel import BYTES, DURATION, DYN, STRING, TIMESTAMP, CompileError, Environment, EvaluationError, types_of

TEXT: dict[str, Any] = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["replicas"],
            "properties": {
                "replicas": {"type": "integer"},
                "weight": {"type": "number"},
                "names": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 10}},
                "set": {"type": "array", "x-kubernetes-list-type": "set", "items": TEXT},
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "properties": {"name": TEXT, "port": {"x-kubernetes-int-or-string": True}},
                    },
                },
                "at": {"type": "string", "format": "date-time"},
                "day": {"type": "string", "format": "date"},
                "wait": {"type": "string", "format": "duration"},
                "data": {"type": "string", "format": "byte"},
                "namespace": TEXT,
                "a-b.c/d": TEXT,
                "under__score": TEXT,
                "note": {"type": "string", "nullable": True},
                "labels": {"type": "object", "additionalProperties": {"type": "integer"}},
                "any": {"x-kubernetes-preserve-unknown-fields": True},
                "embedded": {"type": "object", "x-kubernetes-embedded-resource": True},
            },
        }
    },
}
OBJECT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Sample",
    "metadata": {"name": "one"},
    "spec": {
        "replicas": 3,
        "weight": 2,
        "names": ["a", "b"],
        "set": ["x", "y"],
        "ports": [{"name": "p", "port": 80}, {"name": "q", "port": "http"}],
        "at": "2020-01-01T00:00:00Z",
        "day": "2020-01-01",
        "wait": "1m30s",
        "data": "aGk=",
        "namespace": "n",
        "a-b.c/d": "e",
        "under__score": "u",
        "note": None,
        "labels": {"l": 1},
        "embedded": {"kind": "Inner", "metadata": {"name": "in"}},
    },
}


def environment() -> Environment:
    found = types_of.schema(SCHEMA, root=True)
    assert found is not None
    return Environment.kubernetes().with_variables({"self": found, "oldSelf": found})


RULES = [
    "self.spec.replicas == 3 && type(self.spec.replicas) == int",
    "self.spec.weight == 2.0 && type(self.spec.weight) == double && self.spec.weight / 4.0 == 0.5",
    "self.spec.names.all(n, n.size() == 1)",
    "self.spec.set == ['y', 'x'] && self.spec.set + ['y', 'z'] == ['x', 'y', 'z']",
    "self.spec.ports == [self.spec.ports[1], self.spec.ports[0]]",
    "(self.spec.ports + [self.spec.ports[0]]).size() == 2",
    "self.spec.ports.exists(p, type(p.port) == int && p.port < 81)",
    "self.spec.ports.exists(p, type(p.port) == string && p.port.startsWith('h'))",
    "self.spec.at == timestamp('2020-01-01T00:00:00.000Z') && self.spec.at.getFullYear() == 2020",
    "self.spec.day < self.spec.at + duration('1s')",
    "self.spec.wait == duration('90s')",
    "self.spec.data == b'hi' && size(self.spec.data) == 2",
    "self.spec.__namespace__ == 'n' && self.spec.namespace == 'n'",
    "self.spec.a__dash__b__dot__c__slash__d == 'e'",
    "self.spec.under__underscores__score == 'u'",
    "!has(self.spec.note)",
    "self.spec.labels.all(k, self.spec.labels[k] == 1)",
    "self.metadata.name == 'one' && self.kind == 'Sample'",
    "self.spec.embedded.metadata.name == 'in' && !has(self.spec.embedded.apiVersion)",
    "self == oldSelf && self.spec == oldSelf.spec",
]


@pytest.mark.parametrize("rule", RULES)
def test_rule_on_an_object(rule: str) -> None:
    old = copy.deepcopy(OBJECT)
    old["spec"]["set"].reverse()
    old["spec"]["ports"].reverse()
    old["spec"]["weight"] = 2.0
    before = copy.deepcopy(OBJECT)

    assert environment().compile(rule).run({"self": OBJECT, "oldSelf": old}) is True
    assert before == OBJECT


@pytest.mark.parametrize("field", ["unknown", "any"])
def test_fields_without_a_type_are_not_there(field: str) -> None:
    with pytest.raises(CompileError, match=f"undefined field '{field}'"):
        environment().compile(f"self.spec.{field} == 1")


def test_absent_and_null_fields_are_no_such_key() -> None:
    program = environment().compile("self.spec.note == 'x'")

    for spec in ({}, {"note": None}):
        with pytest.raises(EvaluationError, match="no such key: note"):
            program.run({"self": {"spec": spec}})


@pytest.mark.parametrize(
    ("schema", "expected", "size"),
    [
        ({"type": "string"}, STRING, 3 * 1024 * 1024 - 2),
        ({"type": "string", "maxLength": 5}, STRING, 20),
        ({"type": "string", "enum": ["a", "bcd"]}, STRING, 3),
        ({"type": "string", "format": "date"}, TIMESTAMP, 12),
        ({"type": "string", "format": "duration"}, DURATION, 32),
        ({"type": "string", "format": "byte", "maxLength": 5}, BYTES, 5),
        ({"x-kubernetes-int-or-string": True}, DYN, 3 * 1024 * 1024 - 2),
        ({"type": "integer"}, None, 0),
    ],
)
def test_sizes_of_simple_schemas(schema: dict[str, Any], expected: Any, size: int) -> None:
    found = types_of.schema(schema)

    assert found is not None
    assert expected is None or found == expected
    assert found.max_size == size


def test_unbounded_lists_are_bounded_by_the_size_of_a_request() -> None:
    found = types_of.schema({"type": "array", "items": {"type": "boolean"}})

    assert found is not None
    assert found.max_size == (3 * 1024 * 1024 - 2) // 5


def test_schemas_without_types_are_not_exposed() -> None:
    assert types_of.schema({"x-kubernetes-preserve-unknown-fields": True}) is None
    assert types_of.schema({"type": "array", "items": {}}) is None


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("plain", "plain"),
        ("in", "__in__"),
        ("a.b", "a__dot__b"),
        ("a__b", "a__underscores__b"),
        ("1a", None),
        ("a b", None),
    ],
)
def test_names_are_escaped(name: str, escaped: str | None) -> None:
    assert types_of.escape(name) == escaped

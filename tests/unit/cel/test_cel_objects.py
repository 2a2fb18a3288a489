"""`Object{...}` and `JSONPatch{...}`, which mutating policies make."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from tiphys.api.cel import DYN, INT, CompileError, Environment, Field, list_of, named
from tiphys.api.cel.objects import JSON_PATCH, misplaced

ENVIRONMENT = Environment.kubernetes().with_objects().with_variables({"object": DYN})


def made(source: str) -> Any:
    return ENVIRONMENT.compile(source).run({"object": {"spec": {"replicas": 1}}})


def test_object_with_objects_in_it_is_json() -> None:
    value = made("Object{spec: Object.spec{replicas: object.spec.replicas + 1, list: [Object.spec.list{a: 'b'}]}}")

    assert value == {"spec": {"replicas": 2, "list": [{"a": "b"}]}}
    assert misplaced(value) == []


def test_optional_fields_are_left_out_when_absent() -> None:
    assert made("Object{?spec: object.?status, ?kind: optional.of('x')}") == {"kind": "x"}


def test_object_in_the_wrong_place_is_told() -> None:
    assert misplaced(made("Object{spec: Object.metadata{}}")) == [
        'unexpected type name "Object.metadata", expected "Object.spec", '
        "which matches field name path from root Object type"
    ]


def test_patches() -> None:
    source = "[JSONPatch{op: 'replace', path: '/spec/replicas', value: 3}]"

    assert ENVIRONMENT.compile(source, expect=list_of(JSON_PATCH)).run({}) == [
        {"op": "replace", "path": "/spec/replicas", "value": 3}
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("JSONPatch{op: 1}", "expected type of field 'op' is 'string' but provided type is 'int'"),
        ("JSONPatch{what: ''}", "undefined field 'what'"),
        ("Other{}", "undeclared reference to 'Other'"),
        ("int{}", "'int' is not a message type"),
    ],
)
def test_what_is_no_object(source: str, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        ENVIRONMENT.compile(source)


def test_objects_are_for_mutating_policies_only() -> None:
    with pytest.raises(CompileError, match="undeclared reference to 'Object'"):
        Environment.kubernetes().compile("Object{}")


def test_lazy_variables_are_read_when_an_expression_comes_to_them() -> None:
    class Lazy(dict[str, Any]):
        read: ClassVar[list[str]] = []

        def __getitem__(self, name: str) -> Any:
            self.read.append(name)
            return None if name == "nothing" else 3

    variables = named("variables", {"count": Field("count", INT), "nothing": Field("nothing", DYN)})
    environment = Environment.kubernetes().with_variables({"variables": variables})
    lazy = Lazy()

    assert environment.compile("variables.count > 2 || variables.nothing == null").run({"variables": lazy}) is True
    assert lazy.read == ["count"]
    assert environment.compile("variables.nothing == null").run({"variables": lazy}) is True

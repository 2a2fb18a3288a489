"""Paths of fields in schemas, as rules and selectable fields name them."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.custom.fieldpaths import FieldPathError, resolve

NUMBER = {"type": "number"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "foo": {"type": "object", "additionalProperties": NUMBER},
        "a": {"type": "object", "properties": {"bbb": {"type": "object", "properties": {"34": NUMBER}},
                                               "bbb.c": NUMBER, "foo's": NUMBER, "test\a": NUMBER}},
        "white space": NUMBER,
        "'foo'bar": NUMBER,
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": NUMBER}}},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".a", "a"),
        (r"['\'foo\'bar']", "'foo'bar"),
        (".white space", "white space"),
        (".a['bbb.c']", "a.bbb.c"),
        (".foo.subAdd", "foo[subAdd]"),
        (".foo['subAdd']", "foo[subAdd]"),
        (".a.foo's", "a.foo's"),
        (r".a['foo\'s']", "a.foo's"),
        (r".a['test\a']", "a.test\a"),
        (".a.bbb.34", "a.bbb.34"),
        (".a.bbb['34']", "a.bbb.34"),
        (".list", "list"),
    ],
)
def test_paths_that_lead_somewhere(path: str, text: str) -> None:
    assert resolve(path, SCHEMA).text == text


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (". a", "does not refer to a valid field"),
        (".a.bb[b", "does not refer to a valid field"),
        (".a['bbb.c'", "unexpected end of JSON path"),
        (".", "unexpected end of JSON path"),
        (".a.foo", "does not refer to a valid field"),
        (".a.bbb[0]", "expected single quoted string but got 0"),
        (".list[0]", "expected single quoted string but got 0"),
        (".list['a']", "does not refer to a valid field"),
        ("a", "expected [ or . but got: a"),
        (".a..b", "does not refer to a valid field"),
        (r".a['\q']", r"invalid string literal: invalid escape char \q"),
    ],
)
def test_paths_that_lead_nowhere(path: str, problem: str) -> None:
    with pytest.raises(FieldPathError) as caught:
        resolve(path, SCHEMA)
    assert str(caught.value) == problem


def test_brackets_may_be_forbidden() -> None:
    with pytest.raises(FieldPathError, match="array notation is not allowed"):
        resolve(".a['bbb']", SCHEMA, brackets=False)

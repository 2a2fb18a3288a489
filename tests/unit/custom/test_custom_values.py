"""Values of custom resources against their schemas: the words, the quick check, ratcheting, formats."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiphys.api.custom.checks import checker
from tiphys.api.custom.correlation import Correlated
from tiphys.api.custom.formats import check_of, known
from tiphys.api.custom.gotext import number, shown
from tiphys.api.custom.patterns import PatternError, compiled
from tiphys.api.custom.values import explain


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _problems(schema: Any, value: Any) -> list[str]:
    check = checker(schema)
    found = [str(error) for error in explain(schema, value)]
    assert (check is None or check(value)) == (not found)
    return found


@pytest.mark.parametrize(
    ("schema", "value", "texts"),
    [
        ({"type": "string"}, 5, ['Invalid value: "integer": a in body must be of type string: "integer"']),
        ({"type": "string"}, None, ['Invalid value: "null": a in body must be of type string: "null"']),
        ({"type": "string", "nullable": True}, None, []),
        ({"type": "integer"}, 1.0, []),
        ({"type": "number"}, 1, []),
        ({"type": "boolean"}, 1, ['Invalid value: "integer": a in body must be of type boolean: "integer"']),
        ({"x-kubernetes-int-or-string": True}, "80%", []),
        ({"x-kubernetes-int-or-string": True}, True,
         ['Invalid value: "boolean": a in body must be of type integer,string: "boolean"']),
        ({"type": "string", "enum": ["x", "y"]}, "z", ['Unsupported value: "z": supported values: "x", "y"']),
        ({"type": "integer", "enum": [1, 2]}, 3, ['Unsupported value: 3: supported values: "1", "2"']),
        ({"type": "integer", "minimum": 1}, 0,
         ["Invalid value: 0: a in body should be greater than or equal to 1"]),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, 1,
         ["Invalid value: 1: a in body should be greater than 1"]),
        ({"type": "integer", "maximum": 3}, 4, ["Invalid value: 4: a in body should be less than or equal to 3"]),
        ({"type": "number", "maximum": 1.5, "exclusiveMaximum": True}, 1.5,
         ["Invalid value: 1.5: a in body should be less than 1.5"]),
        ({"type": "integer", "multipleOf": 5}, 7, ["Invalid value: 7: a in body should be a multiple of 5"]),
        ({"type": "string", "maxLength": 2}, "äöü", ["Too long: may not be more than 2 bytes"]),
        ({"type": "string", "minLength": 2}, "a", ['Invalid value: "a": a in body should be at least 2 chars long']),
        ({"type": "string", "pattern": "^x"}, "y", ["Invalid value: \"y\": a in body should match '^x'"]),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 1}, ["a", "b"],
         ["Too many: 2: must have at most 1 item"]),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1}, [],
         ["Invalid value: 0: a in body should have at least 1 items"]),
        ({"type": "object", "maxProperties": 1}, {"x": 1, "y": 1}, ["Too many: 2: must have at most 1 item"]),
        ({"type": "object", "minProperties": 1}, {}, ["Invalid value: 0: a in body should have at least 1 properties"]),
        ({"type": "string", "format": "date"}, "today",
         ['Invalid value: "today": a in body must be of type date: "today"']),
        ({"type": "string", "format": "made-up"}, "today", []),
    ],
)  # fmt: skip
def test_problems_are_worded_as_upstream_does(schema: Any, value: Any, texts: list[str]) -> None:
    assert _problems(_object(a=schema), {"a": value}) == [f"a: {text}" for text in texts]


def test_problems_of_nested_values_have_their_paths() -> None:
    schema = _object(
        items={"type": "array", "items": {**_object(n={"type": "integer"}), "required": ["k"]}},
        more={"type": "object", "additionalProperties": {"type": "boolean"}},
    )
    assert _problems(schema, {"items": [{"n": "x"}], "more": {"q": "no"}}) == [
        'items[0].n: Invalid value: "string": items[0].n in body must be of type integer: "string"',
        "items[0].k: Required value",
        'more.q: Invalid value: "string": more.q in body must be of type boolean: "string"',
    ]


def test_numbers_out_of_range_are_problems_of_the_whole() -> None:
    schema = _object(a={"type": "integer", "format": "int32"})
    assert _problems(schema, {"a": 2**40}) == [
        '<nil>: Invalid value: "": Checked value must be of type integer with format int32 in a'
    ]


def test_alternatives() -> None:
    one_of = {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}
    assert _problems(one_of, {"a": 1}) == []
    assert _problems(one_of, {"a": 1, "b": 1}) == [
        '<nil>: Invalid value: "": "" must validate one and only one schema (oneOf). Found 2 valid alternatives'
    ]
    assert _problems(one_of, {}) == [
        '<nil>: Invalid value: "": "" must validate one and only one schema (oneOf). Found none valid',
        "a: Required value",
    ]
    any_of = _object(x={"type": "integer", "anyOf": [{"minimum": 10}, {"maximum": 3}]})
    assert _problems(any_of, {"x": 5})[0] == '<nil>: Invalid value: "": "x" must validate at least one schema (anyOf)'
    all_of = _object(x={"type": "integer", "allOf": [{"minimum": 10}, {"maximum": 3}]})
    assert _problems(all_of, {"x": 12}) == [
        "x: Invalid value: 12: x in body should be less than or equal to 3",
        '<nil>: Invalid value: "": "x" must validate all the schemas (allOf)',
    ]
    negated = _object(x={"type": "string", "not": {"enum": ["bad"]}})
    assert _problems(negated, {"x": "bad"}) == ['<nil>: Invalid value: "": "x" must not validate the schema (not)']


def test_values_that_did_not_change_need_not_obey_new_rules() -> None:
    schema = _object(a={"type": "string", "maxLength": 1}, b={"type": "string", "maxLength": 1})
    old, new = {"a": "long", "b": "x"}, {"a": "long", "b": "longer"}
    found = explain(schema, new, "", Correlated(new, old, schema))
    assert [str(error) for error in found] == ["b: Too long: may not be more than 1 byte"]


def test_items_of_list_maps_are_matched_by_their_keys() -> None:
    item = _object(k={"type": "string"}, v={"type": "integer", "maximum": 3})
    schema = _object(
        l={"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]},
        plain={"type": "array", "items": item},
    )
    old = {"l": [{"k": "a", "v": 9}, {"k": "b", "v": 1}], "plain": [{"k": "a", "v": 9}]}
    new = {"l": [{"k": "b", "v": 8}, {"k": "a", "v": 9}], "plain": [{"k": "a", "v": 9}, {"k": "c", "v": 1}]}
    found = explain(schema, new, "", Correlated(new, old, schema))
    assert [error.field for error in found] == ["l[0].v", "plain[0].v"]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([0.5, 1.0, 2.5])
    | st.sampled_from(["", "a", "bb"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
_SCALARS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "integer", "number", "boolean", "array", "object"]),
        "nullable": st.booleans(),
        "minimum": st.sampled_from([0, 1.5]),
        "maximum": st.sampled_from([3, 2.5]),
        "multipleOf": st.sampled_from([2, 0.5]),
        "exclusiveMaximum": st.booleans(),
        "maxLength": st.integers(0, 2),
        "pattern": st.sampled_from(["^a", "b+$"]),
        "format": st.sampled_from(["int32", "date", "float", "ipv4", "nope"]),
        "enum": st.lists(VALUES, min_size=1, max_size=2),
        "maxItems": st.integers(0, 2),
        "minProperties": st.integers(0, 1),
        "required": st.lists(st.sampled_from("abc"), max_size=1),
        "x-kubernetes-int-or-string": st.just(True),
    },
)
SCHEMAS = st.recursive(
    _SCALARS,
    lambda inner: st.builds(
        lambda base, more: base | more,
        _SCALARS,
        st.fixed_dictionaries(
            {},
            optional={
                "items": inner,
                "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
                "additionalProperties": inner | st.booleans(),
                "anyOf": st.lists(inner, min_size=1, max_size=2),
                "oneOf": st.lists(inner, min_size=1, max_size=2),
                "allOf": st.lists(inner, min_size=1, max_size=2),
                "not": inner,
            },
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(SCHEMAS, VALUES)
def test_the_quick_check_and_the_explanation_agree(schema: Any, value: Any) -> None:
    check = checker(schema)
    assert (check is None or check(value)) == (explain(schema, value) == [])


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
        ("uri", "https://example.com/a", "no uri"),
        ("email", "A Name <a@example.com>", "a@"),
        ("hostname", "a-b.example.com", "a..b"),
        ("ipv4", "010.0.0.1", "10.0.0"),
        ("ipv6", "2001:db8::1", "10.0.0.1"),
        ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
        ("mac", "01:23:45:67:89:ab", "01:23"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
        ("uuid3", "123e4567-e89b-32d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-42d3-c456-426614174000"),
        ("uuid5", "123e4567-e89b-52d3-a456-426614174000", "123e4567-e89b-42d3-a456-426614174000"),
        ("isbn", "978-0321751041", "978-0321751042"),
        ("isbn10", "0321751043", "0321751044"),
        ("isbn13", "978 0321751041", "0321751043"),
        ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
        ("ssn", "123-45-6789", "123456789"),
        ("hexcolor", "#FFffff", "#FF"),
        ("rgbcolor", "rgb(255, 0,12)", "rgb(256,0,0)"),
        ("byte", "aGVsbG8=", "aGVsbG8"),
        ("password", "anything", None),
        ("date", "2024-02-29", "2023-02-29"),
        ("duration", "22 ns", "soon"),
        ("date-time", "2014-12-15T19:30:20.000Z", "2014-12-15 19:30:20"),
        ("k8s-short-name", "a-b", "A"),
        ("k8s-long-name", "a.b-c.d", "a..b"),
    ],
)
def test_formats(name: str, good: str, bad: str | None) -> None:
    check = check_of(name)
    assert check is not None
    assert check(good)
    assert bad is None or not check(bad)
    assert known(name, "string")
    assert not known(name, "integer")


def test_patterns_are_re2s() -> None:
    name = compiled(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    assert name("a-b.c")
    assert not name("a-b.c\n")
    assert not compiled(r"^(a+)+$")("a" * 5000 + "!")
    assert compiled(r"\d\z")("x1")
    with pytest.raises(PatternError, match="invalid or unsupported Perl syntax"):
        compiled("(?=x)")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.5, "1.5"), (1e6, "1e+06"), (123456.0, "123456"), (0.0001, "0.0001"), (1e-5, "1e-05"), (-2.0, "-2"),
     (1.25e21, "1.25e+21"), (0.0, "0")],
)  # fmt: skip
def test_numbers_are_written_as_go_does(value: float, text: str) -> None:
    assert number(value) == text
    assert shown({"b": 1, "a": ["<"]}) == '{"a":["\\u003c"],"b":1}'

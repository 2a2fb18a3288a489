"""Sets of fields: algebra, wire form, paths."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.api.apply.fields import (
    Malformed,
    difference,
    dump,
    has,
    intersection,
    key_element,
    of_path,
    parse,
    path_text,
    paths,
    union,
    value_element,
    without,
)

Path = tuple[str, ...]
PATHS = st.sets(st.lists(st.sampled_from(["f:a", "f:b", "f:c"]), min_size=1, max_size=3).map(tuple), max_size=8)


def make(*members: Path) -> Any:
    out: Any = {}
    for member in members:
        out = union(out, of_path(member))
    return out


@given(PATHS, PATHS)
def test_sets_of_fields_behave_like_sets_of_paths(left: set[Path], right: set[Path]) -> None:
    one, other = make(*left), make(*right)
    assert set(paths(one)) == left
    assert set(paths(union(one, other))) == left | right
    assert set(paths(intersection(one, other))) == left & right
    assert set(paths(difference(one, other))) == left - right
    inside = {path for path in left if any(path[: len(member)] == member for member in right)}
    assert set(paths(without(one, other))) == left - inside
    assert parse(orjson.loads(dump(one))) == one
    assert all(has(one, path) == (path in left) for path in left | right)


def test_a_field_that_is_a_member_with_members_below_it_has_a_dot() -> None:
    assert union({"f:a": {}}, {"f:a": {"f:b": {}}}) == {"f:a": {".": {}, "f:b": {}}}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"f:a": {".": {}}}, {"f:a": {}}),
        ({"f:a": {".": {}, "f:b": {}}}, {"f:a": {".": {}, "f:b": {}}}),
        ({'k:{"b": 1, "a": "x"}': {}}, {'k:{"a":"x","b":1}': {}}),
        ({'v: "x"': {}}, {'v:"x"': {}}),
        ({"z:later": {"f:a": {}}, "f:b": {}}, {"f:b": {}}),
        ({"i:3": {}}, {"i:3": {}}),
    ],
)
def test_what_clients_send_is_brought_into_canonical_form(sent: Any, kept: Any) -> None:
    assert parse(sent) == kept


@pytest.mark.parametrize("sent", [{"a": {}}, {"k:[]": {}}, {"k:{": {}}, {"i:x": {}}, {"f:a": 1}, []])
def test_what_is_no_set_of_fields_is_refused(sent: Any) -> None:
    with pytest.raises(Malformed):
        parse(sent)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("f:spec", "f:replicas"), ".spec.replicas"),
        (("f:c", key_element({"name": 'a"b'}), "f:image"), '.c[name="a\\"b"].image'),
        (("f:p", key_element({"containerPort": 80, "protocol": "TCP"})), '.p[containerPort=80,protocol="TCP"]'),
        (("f:s", value_element("x")), '.s[="x"]'),
        (("f:s", value_element(True)), ".s[=true]"),
        (("f:l", "i:0"), ".l[0]"),
    ],
)
def test_paths_are_written_as_conflicts_show_them(path: Path, text: str) -> None:
    assert path_text(path) == text


def test_members_of_a_level_are_listed_before_those_below_it() -> None:
    fields = make(("f:b",), ("f:a", "f:x"), ("f:a",))
    assert list(paths(fields)) == [("f:a",), ("f:b",), ("f:a", "f:x")]


def test_strings_in_elements_are_escaped_for_html() -> None:
    assert value_element("<&>") == 'v:"\\u003c\\u0026\\u003e"'

"""Pruning, defaulting, list types and embedded resources of custom resources."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tiphys.api.custom import embedded, listtypes
from tiphys.api.custom.defaulting import defaulter
from tiphys.api.custom.pruning import pruner, unknown_fields
from tiphys.api.custom.schemas import EMBEDDED, PRESERVE
from tiphys.api.decode.objects import DecodeError, Pass

TEXT = {"type": "string"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _list(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


@pytest.mark.parametrize(
    ("schema", "value", "kept"),
    [
        (_object(a=TEXT), {"a": "x", "b": 1}, {"a": "x"}),
        (_object(a=_object(b=TEXT)), {"a": {"b": "x", "c": {}}}, {"a": {"b": "x"}}),
        (_object(a=_list(_object(b=TEXT))), {"a": [{"b": "x", "c": 1}, 5]}, {"a": [{"b": "x"}, 5]}),
        ({"type": "object", "additionalProperties": _object(a=TEXT)}, {"x": {"a": 1, "b": 2}}, {"x": {"a": 1}}),
        ({"type": "object", "additionalProperties": True}, {"x": {"a": 1}, "y": 2}, {"x": {}, "y": 2}),
        ({**_object(a=_object(b=TEXT)), PRESERVE: True}, {"a": {"b": "x", "c": 1}, "z": {"q": 1}},
         {"a": {"b": "x"}, "z": {"q": 1}}),
        (_object(a={PRESERVE: True}), {"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": 1}]}}),
        (_object(a={**_list(_object(b=TEXT)), PRESERVE: True}), {"a": [{"b": "x", "c": 1}]},
         {"a": [{"b": "x", "c": 1}]}),
        (_object(a=TEXT), {"a": {"b": 1}}, {"a": {}}),
        (_object(a=TEXT), {"a": [{"b": 1}]}, {"a": [{}]}),
    ],
)  # fmt: skip
def test_what_a_schema_does_not_describe_goes(schema: Any, value: Any, kept: Any) -> None:
    before = copy.deepcopy(value)
    state = Pass()
    assert pruner(schema)(value, state) == kept
    assert value == before
    assert state.unknown == (kept != before)


def test_nulls_go_unless_they_are_allowed_or_have_a_default() -> None:
    schema = _object(a=TEXT, b={**TEXT, "nullable": True}, c={**TEXT, "default": "x"})
    pruned = pruner(schema)({"a": None, "b": None, "c": None}, Pass())
    assert pruned == {"b": None, "c": None}
    default = defaulter(schema)
    assert default is not None
    default(pruned)
    assert pruned == {"b": None, "c": "x"}


def test_unknown_fields_are_named_by_their_paths() -> None:
    schema = _object(spec=_object(a=_list(_object(b=TEXT)), free={"type": "object", PRESERVE: True}))
    value = {"apiVersion": "v1", "kind": "K", "metadata": {}, "x": 1,
             "spec": {"a": [{"b": "1"}, {"c": 1}], "z": 1, "free": {"any": 1}}}  # fmt: skip
    assert unknown_fields(value, schema) == ["spec.a[1].c", "spec.z", "x"]


def test_keys_are_counted_for_the_search_for_duplicates() -> None:
    state = Pass()
    schema = _object(a=_object(b=TEXT), free={"type": "object", PRESERVE: True})
    pruner(schema)({"a": {"b": "x"}, "free": {"c": {"d": 1}}}, state)
    assert state.keys == 5


def test_defaults_reach_nested_items_and_extra_properties() -> None:
    inner = _object(v={"type": "integer", "default": 7})
    schema = _object(
        items=_list(inner), extra={"type": "object", "additionalProperties": inner}, whole={**inner, "default": {}}
    )
    default = defaulter(schema)
    assert default is not None
    value: dict[str, Any] = {"items": [{}, {"v": 1}], "extra": {"x": {}}}
    default(value)
    assert value == {"items": [{"v": 7}, {"v": 1}], "extra": {"x": {"v": 7}}, "whole": {"v": 7}}


def test_a_default_is_a_new_value_each_time() -> None:
    default = defaulter(_object(a={**_list(TEXT), "default": []}))
    assert default is not None
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    default(first)
    first["a"].append("x")
    default(second)
    assert second == {"a": []}


def test_nothing_is_made_for_schemas_without_defaults() -> None:
    assert defaulter(_object(a=TEXT)) is None


def test_sets_and_maps_may_have_nothing_twice() -> None:
    schema = _object(
        tags=_list(TEXT, **{"x-kubernetes-list-type": "set"}),
        ports=_list(_object(port={"type": "integer"}, protocol=TEXT),
                    **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"]}),
    )  # fmt: skip
    value = {
        "tags": ["a", "b", "a", "a"],
        "ports": [{"port": 1, "protocol": "x"}, {"port": 1}, {"port": 1, "protocol": "x"}, {"port": 1}],
    }
    assert [str(error) for error in listtypes.problems(schema, value)] == [
        'tags[2]: Duplicate value: "a"',
        'ports[2]: Duplicate value: {"port":1,"protocol":"x"}',
        'ports[3]: Duplicate value: {"port":1}',
    ]


def test_numbers_of_two_types_are_two_items() -> None:
    schema = _object(a=_list({"type": "number"}, **{"x-kubernetes-list-type": "set"}))
    assert listtypes.problems(schema, {"a": [1, 1.0, True]}) == []


def test_embedded_resources_have_a_kind_and_sound_metadata() -> None:
    schema = _object(inner={"type": "object", EMBEDDED: True, PRESERVE: True})
    found = embedded.problems(schema, {"inner": {"kind": "no good", "metadata": {"name": "a/b"}}})
    assert [(error.type, error.field) for error in found] == [
        ("FieldValueRequired", "inner.apiVersion"),
        ("FieldValueInvalid", "inner.kind"),
        ("FieldValueInvalid", "inner.metadata.name"),
    ]
    valid = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}}
    assert embedded.problems(schema, {"inner": valid}) == []


def test_embedded_metadata_is_put_in_order() -> None:
    schema = _object(inner={"type": "object", EMBEDDED: True, PRESERVE: True})
    value = {"inner": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "nonsense": 1}}}
    pruned = pruner(schema, embedded.coerce)(value, Pass())
    assert pruned["inner"]["metadata"] == {"name": "a"}
    with pytest.raises(DecodeError, match="metadata"):
        pruner(schema, embedded.coerce)({"inner": {"metadata": {"labels": 1}}}, Pass())

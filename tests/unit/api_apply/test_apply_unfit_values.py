"""Values that are not what their schema says: managers are told before a custom resource is validated."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.apply.compare import compare, whole
from tiphys.api.apply.merge import merge, remove
from tiphys.api.apply.nodes import Node, Nodes
from tiphys.api.custom.ownership import node_of
from tiphys.api.schema import builtin

LIST = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["k"],
    "items": {"type": "object", "properties": {"k": {"type": "string"}}},
}
SCHEMA = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"list": LIST}}}}


def _node() -> Node:
    return node_of(SCHEMA, Nodes(builtin()))


@pytest.mark.parametrize("value", [5, "x", True, {"a": 1}, [1], [{"k": 1}, 2]])
def test_changes_to_and_from_them_are_owned_whole(value: Any) -> None:
    node, fine = _node(), {"spec": {"list": [{"k": "a"}]}}
    odd = {"spec": {"list": value}}
    assert not compare(node, fine, odd).same
    assert not compare(node, odd, fine).same
    assert not compare(node, fine, {"spec": value}).same
    assert whole(node, odd)


@pytest.mark.parametrize("value", [5, "x", {"a": 1}])
def test_what_is_applied_replaces_them(value: Any) -> None:
    node = _node()
    applied = {"spec": {"list": [{"k": "a"}]}}
    assert merge(node, {"spec": {"list": value}}, applied) == applied
    assert remove(node, {"spec": {"list": value}}, {"f:spec": {"f:list": {'k:{"k":"a"}': {}}}}) == {
        "spec": {"list": None}
    }

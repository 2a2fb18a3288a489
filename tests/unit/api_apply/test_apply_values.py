"""Objects compared, claimed, merged and pruned, as tables of small cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tiphys.api.apply.check import problems, text
from tiphys.api.apply.compare import compare, fields_of
from tiphys.api.apply.fields import paths
from tiphys.api.apply.merge import merge, remove
from tiphys.api.apply.nodes import Node

NodeOf = Callable[..., Node]
FINALIZERS = ("v1", "Pod", "metadata", "finalizers")
PORTS = ("v1", "Service", "spec", "ports")
SPEC = ("v1", "Pod", "spec")


def numbers(*found: int) -> list[dict[str, Any]]:
    return [{"port": one} for one in found]


@pytest.mark.parametrize(
    ("live", "applied", "merged"),
    [
        ("ab", "b", "ab"),
        ("ab", "", "ab"),
        ("", "ab", "ab"),
        ("ab", "ba", "ba"),
        ("ab", "cd", "abcd"),
        ("abc", "cd", "abcd"),
        ("abcd", "da", "bcda"),
        ("axb", "ab", "axb"),
        ("xab", "ba", "xba"),
        ("abx", "yb", "aybx"),
        ("aa", "b", "aab"),
        ("aab", "ac", "acb"),
    ],
)
def test_applied_items_give_the_order_and_others_stay_where_they_are(
    node_of: NodeOf, live: str, applied: str, merged: str
) -> None:
    assert merge(node_of(*FINALIZERS), list(live), list(applied)) == list(merged)


def test_items_with_keys_are_merged_one_by_one_with_defaults_for_keys(node_of: NodeOf) -> None:
    live = [{"port": 80, "protocol": "TCP", "nodePort": 30000}, {"port": 80, "protocol": "UDP"}]
    found = merge(node_of(*PORTS), live, [{"port": 80, "name": "web"}])
    assert found == [{"port": 80, "protocol": "TCP", "nodePort": 30000, "name": "web"}, live[1]]


@pytest.mark.parametrize(
    ("path", "old", "new", "removed", "modified", "added"),
    [
        (SPEC, {"nodeName": "a"}, {"nodeName": "b"}, [], ["f:nodeName"], []),
        (SPEC, {"nodeName": "a"}, {}, ["f:nodeName"], [], []),
        (SPEC, {}, {"tolerations": [{"key": "a"}]}, [], [], ["f:tolerations"]),
        (SPEC, {"nodeSelector": {"a": "b"}}, {"nodeSelector": {"a": "c"}}, [], ["f:nodeSelector"], []),
        (
            SPEC,
            {"securityContext": {}},
            {"securityContext": {"runAsUser": 1}},
            [],
            [],
            ["f:securityContext.f:runAsUser"],
        ),
        (SPEC, {}, {"securityContext": {}}, [], [], ["f:securityContext"]),
        (
            SPEC,
            {"containers": [{"name": "a"}]},
            {"containers": [{"name": "b"}]},
            ['f:containers.k:{"name":"a"}', 'f:containers.k:{"name":"a"}.f:name'],
            [],
            ['f:containers.k:{"name":"b"}', 'f:containers.k:{"name":"b"}.f:name'],
        ),
        (
            SPEC,
            {"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "y"}]},
            {"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "z"}]},
            [],
            ['f:containers.k:{"name":"a"}'],
            [],
        ),
        (
            SPEC,
            {"containers": [{"name": "a"}]},
            {"containers": [{"name": "a"}, {"name": "a"}]},
            ['f:containers.k:{"name":"a"}', 'f:containers.k:{"name":"a"}.f:name'],
            [],
            ['f:containers.k:{"name":"a"}'],
        ),
        (("v1", "Pod", "metadata"), {"labels": None}, {"labels": {"a": "b"}}, [], [], ["f:labels.f:a"]),
        (("v1", "Pod", "metadata"), {"finalizers": ["a"]}, {"finalizers": ["a", "b"]}, [], [], ['f:finalizers.v:"b"']),
    ],
)
def test_differences_are_as_fine_as_the_schema_says(
    node_of: NodeOf, path: tuple[str, ...], old: Any, new: Any, removed: Any, modified: Any, added: Any
) -> None:
    found = compare(node_of(*path), old, new)
    shown = [sorted(".".join(one) for one in paths(fields)) for fields in (found.removed, found.modified, found.added)]
    assert shown == [sorted(removed), sorted(modified), sorted(added)]


@pytest.mark.parametrize(
    ("path", "applied", "claimed"),
    [
        (SPEC, {"containers": [{"name": "a"}]}, {"f:containers": {'k:{"name":"a"}': {".": {}, "f:name": {}}}}),
        (SPEC, {"securityContext": {"runAsUser": 1}}, {"f:securityContext": {"f:runAsUser": {}}}),
        (SPEC, {"securityContext": {}}, {"f:securityContext": {}}),
        (SPEC, {"containers": []}, {}),
        (SPEC, {"nodeSelector": {"a": "b"}, "nodeName": None}, {"f:nodeSelector": {}, "f:nodeName": {}}),
        (("v1", "ConfigMap"), {"data": {"a": "b"}}, {"f:data": {"f:a": {}}}),
        (("v1", "Pod", "metadata"), {"finalizers": ["x"]}, {"f:finalizers": {'v:"x"': {}}}),
    ],
)
def test_an_applied_object_claims_its_leaves_and_items(
    node_of: NodeOf, path: tuple[str, ...], applied: Any, claimed: Any
) -> None:
    assert fields_of(node_of(*path), applied) == claimed


def test_a_container_that_loses_everything_becomes_null(node_of: NodeOf) -> None:
    obj = {"data": {"a": "b"}, "binaryData": {"c": "d", "e": "f"}}
    fields: Any = {"f:data": {"f:a": {}}, "f:binaryData": {"f:c": {}}}
    assert remove(node_of("v1", "ConfigMap"), obj, fields) == {"data": None, "binaryData": {"e": "f"}}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"foo": 1}, ".foo: field not declared in schema"),
        ({"nodeName": 1}, ".nodeName: expected string, got &value.valueUnstructured{Value:1}"),
        ({"priority": "1"}, ".priority: expected numeric (int or float), got string"),
        ({"hostNetwork": "x"}, ".hostNetwork: expected boolean, got &{x}"),
        ({"containers": "x"}, ".containers: expected list, got &{x}"),
        ({"securityContext": "x"}, ".securityContext: expected map, got &{x}"),
        (
            {"containers": [{"image": "x"}]},
            '.containers: element 0: associative list with keys has an element that omits all key fields ["name"] '
            "(and doesn't have default values for any key fields)",
        ),
        (
            {"containers": [{"name": "a"}, {"name": "a"}]},
            '.containers: duplicate entries for key [name="a"]',
        ),
        (
            {"containers": [{"name": "a", "image": 1, "foo": {}}]},
            'errors:\n  .containers[name="a"].image: expected string, got &value.valueUnstructured{Value:1}'
            '\n  .containers[name="a"].foo: field not declared in schema',
        ),
        ({"tolerations": [{"key": 1}]}, ".tolerations[0].key: expected string, got &value.valueUnstructured{Value:1}"),
    ],
)
def test_what_is_not_of_the_schema_is_refused_in_upstreams_words(node_of: NodeOf, spec: Any, message: str) -> None:
    assert text(problems(node_of(*SPEC), spec)) == message


def test_what_the_schema_leaves_open_goes_by_its_content(node_of: NodeOf) -> None:
    open_node = node_of("v1", "Pod").nodes.open
    found = compare(open_node, {"a": {"b": 1}, "l": [1]}, {"a": 2, "l": [2], "n": {"x": {"y": 1}}})
    assert list(paths(found.modified)) == [("f:a",), ("f:l",)]
    assert list(paths(found.removed)) == [("f:a", "f:b")]
    assert ("f:n", "f:x", "f:y") in set(paths(found.added))
    assert merge(open_node, {"a": {"b": 1}}, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}

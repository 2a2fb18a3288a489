from __future__ import annotations

from typing import Any

import pytest

from tiphys.client.resources import CONFIG_MAPS
from tiphys.controllers.owner_graph import Action, Node, Owner, OwnerGraph, OwnerState, matters, node_of, verdict


def node(uid: str, *owners: str, blocks: bool = False, namespace: str = "default", **fields: Any) -> Node:
    references = tuple(Owner("v1", "ConfigMap", each, each, blocks) for each in owners)
    return Node(CONFIG_MAPS, namespace, uid, uid, references, **{"kind": "ConfigMap", **fields})


def test_an_owner_that_is_unknown_is_looked_up_for_all_its_dependents() -> None:
    graph = OwnerGraph()
    assert graph.update(node("child", "owner")).examine == {"owner"}
    assert graph.update(node("second", "owner")).examine == {"owner"}
    claimed = {str(where): [each.uid for each in nodes] for where, nodes in graph.claims("owner").items()}
    assert set(claimed) == {"[v1/ConfigMap, namespace: default, name: owner, uid: owner]"}
    assert sorted(*claimed.values()) == ["child", "second"]
    assert graph.update(node("owner")).examine == set()
    assert graph.update(node("third", "owner")).examine == set()


@pytest.mark.parametrize(
    "reference",
    [
        Owner("v1", "ConfigMap", "another", "owner"),
        Owner("v1", "Secret", "owner", "owner"),
        Owner("v2", "ConfigMap", "owner", "owner"),
    ],
)
def test_a_reference_by_other_coordinates_is_suspect_whoever_comes_first(reference: Owner) -> None:
    child = Node(CONFIG_MAPS, "default", "child", "child", (reference,), kind="ConfigMap")
    graph = OwnerGraph()
    graph.update(node("owner"))
    assert graph.update(child).examine == {"child"}
    graph = OwnerGraph()
    graph.update(child)
    assert graph.update(node("owner")).examine == {"child"}


def test_when_an_owner_goes_its_dependents_are_looked_at() -> None:
    graph = OwnerGraph()
    for each in (node("owner"), node("child", "owner"), node("other", "owner")):
        graph.update(each)
    assert graph.remove("owner").examine == {"child", "other"}


def test_an_owner_in_another_namespace_is_suspect() -> None:
    graph = OwnerGraph()
    graph.update(node("owner", namespace="elsewhere"))
    work = graph.update(node("child", "owner"))
    assert work.examine == {"child"}
    assert [(each.uid, owner.uid) for each, owner in work.misplaced] == [("child", "owner")]
    assert graph.update(node("child", "owner", deleting=True)).misplaced == []


def test_a_reference_into_another_namespace_is_told_when_the_owner_comes_last() -> None:
    graph = OwnerGraph()
    graph.update(node("child", "owner"))
    work = graph.update(node("owner", namespace="elsewhere"))
    assert work.examine == {"child"}
    assert [(each.uid, owner.uid) for each, owner in work.misplaced] == [("child", "owner")]


def test_only_what_decides_about_ownership_matters() -> None:
    old = {"metadata": {"uid": "x", "resourceVersion": "1"}}
    assert not matters(old, {"metadata": {"uid": "x", "resourceVersion": "2", "labels": {"a": "b"}}})
    assert matters(old, {"metadata": {"uid": "x", "finalizers": ["orphan"]}})


def test_foreground_deletion_looks_at_the_owner_again_when_a_blocking_dependent_goes() -> None:
    graph = OwnerGraph()
    graph.update(node("owner"))
    graph.update(node("child", "owner", blocks=True))
    gone = node("owner", deleting=True, finalizers=frozenset({"foregroundDeletion"}))
    assert graph.update(gone).examine == {"owner", "child"}
    assert [each.uid for each in graph.blocking("owner")] == ["child"]
    assert graph.remove("child").examine == {"owner"}
    assert graph.blocking("owner") == []


def test_orphaning_is_asked_for_once() -> None:
    graph = OwnerGraph()
    going = node("owner", deleting=True, finalizers=frozenset({"orphan"}))
    assert graph.update(going).orphan == {"owner"}
    assert graph.update(going).orphan == set()


S, D, W = OwnerState.SOLID, OwnerState.DANGLING, OwnerState.WAITING


@pytest.mark.parametrize(
    ("states", "finalizers", "dependents", "action", "propagation"),
    [
        ([S], [], False, Action.KEEP, ""),
        ([D], [], False, Action.DELETE, "Background"),
        ([D], ["orphan"], False, Action.DELETE, "Orphan"),
        ([D], ["foregroundDeletion"], False, Action.DELETE, "Foreground"),
        ([S, D], [], True, Action.DROP_REFERENCES, ""),
        ([S, W], [], True, Action.DROP_REFERENCES, ""),
        ([W], [], True, Action.DELETE_FOREGROUND, "Foreground"),
        ([W], [], False, Action.DELETE, "Background"),
        ([D, W], [], True, Action.DELETE_FOREGROUND, "Foreground"),
        ([], [], False, Action.KEEP, ""),
    ],
)
def test_verdicts(
    states: list[OwnerState], finalizers: list[str], dependents: bool, action: Action, propagation: str
) -> None:
    owners = [Owner("v1", "ConfigMap", str(number), str(number)) for number in range(len(states))]
    found = verdict(owners, dict(zip(owners, states, strict=True)), finalizers, dependents)
    assert (found.action, found.propagation) == (action, propagation)
    if action is Action.DROP_REFERENCES:
        assert found.drop == {"1"}


def test_a_node_is_read_from_metadata_alone() -> None:
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u", "blockOwnerDeletion": True}
    meta = {"name": "a", "namespace": "default", "uid": "x", "ownerReferences": [reference], "finalizers": ["orphan"]}
    read = node_of(CONFIG_MAPS, {"metadata": {**meta, "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    assert read.orphaning
    assert read.owners == (Owner("v1", "ConfigMap", "o", "u", True),)

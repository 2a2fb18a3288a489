"""Metadata helpers: shared objects stay as they are."""

from __future__ import annotations

from typing import Any

from tiphys.api import meta


def test_evolve_copies_only_the_path() -> None:
    obj: dict[str, Any] = {"metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"replicas": 1}}
    new = meta.evolve(obj, {"metadata.labels.y": "2", "spec.replicas": lambda old: old + 1, "status.phase": "Up"})
    assert new["metadata"]["labels"] == {"x": "1", "y": "2"}
    assert new["spec"]["replicas"] == 2
    assert new["status"] == {"phase": "Up"}
    assert obj == {"metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"replicas": 1}}
    assert meta.evolve(obj, {"status": 1})["spec"] is obj["spec"]
    assert meta.evolve(obj, {"metadata.labels": meta.REMOVE})["metadata"] == {"name": "a"}
    assert meta.evolve(obj, {"status.phase": meta.REMOVE}) == obj


def test_dig_stops_where_something_is_missing() -> None:
    obj = {"a": [{"b": 1}], "n": None}
    assert meta.dig(obj, "a", 0, "b") == 1
    assert meta.dig(obj, "a", 1, "b") is None
    assert meta.dig(obj, "n", "x", default=3) == 3


def test_owners() -> None:
    owner = {"metadata": {"name": "o", "uid": "u1"}}
    reference = meta.controller_reference(owner, "apps/v1", "ReplicaSet")
    child = {"metadata": {"ownerReferences": [{"uid": "u0"}, reference]}}
    assert meta.controller_of(child) == reference
    assert meta.is_controlled_by(child, owner)
    assert meta.controller_of(owner) is None


def test_finalizers() -> None:
    obj = {"metadata": {"finalizers": ["a"]}}
    assert meta.with_finalizer(obj, "b")["metadata"]["finalizers"] == ["a", "b"]
    assert meta.without_finalizer(obj, "a")["metadata"] == {}


def test_keys_and_names() -> None:
    obj = {"metadata": {"name": "a", "namespace": "n"}}
    assert meta.key(obj) == "n/a"
    assert meta.split_key("n/a") == ("n", "a")
    assert meta.split_key("a") == ("", "a")
    name = meta.generate_name("x" * 70)
    assert len(name) == 63
    assert set(name[-5:]) <= set(meta.ALPHABET)
    assert meta.new_uid() != meta.new_uid()
    assert len(meta.random_suffix(40)) == 40
    assert {letter for _ in range(200) for letter in meta.random_suffix()} == set(meta.ALPHABET)


def test_conditions_keep_their_time_while_their_status_stays() -> None:
    old = [{"type": "Ready", "status": "True", "lastTransitionTime": "t1"}]
    same = meta.set_condition(old, {"type": "Ready", "status": "True", "reason": "R", "lastTransitionTime": "t2"})
    assert same == [{"type": "Ready", "status": "True", "reason": "R", "lastTransitionTime": "t1"}]
    changed = meta.set_condition(old, {"type": "Ready", "status": "False", "lastTransitionTime": "t2"})
    assert changed[0]["lastTransitionTime"] == "t2"
    assert len(meta.set_condition(old, {"type": "Other", "status": "True"})) == 2
    assert meta.is_true({"status": {"conditions": old}}, "Ready")

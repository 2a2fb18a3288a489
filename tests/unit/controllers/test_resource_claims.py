"""Rules of dynamic resource allocation: names, who needs what, what is released."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.controllers.resource_claims import (
    FINALIZER,
    Named,
    claim_statuses,
    done,
    named,
    needs_work,
    new_claim,
    owning_pod,
    released,
    to_reserve,
)


def pod(name: str = "user", status: Any = None, **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "uid": "u1"}
    return {"metadata": meta, "spec": spec, "status": status or {}}


def claim(status: Any = None, **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": "own", "namespace": "default", **meta}, "spec": {}, "status": status or {}}


GENERATED = {"name": "gpu", "resourceClaimTemplateName": "t"}
NOTED = {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "user-gpu-x"}]}
OWNED = {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "user", "uid": "u1", "controller": True}]}


@pytest.mark.parametrize(
    ("entry", "status", "expected"),
    [
        ({"name": "gpu", "resourceClaimName": "own"}, {}, Named("own")),
        (GENERATED, {}, Named(generated=True)),
        (GENERATED, NOTED, Named("user-gpu-x", generated=True)),
        (GENERATED, {"resourceClaimStatuses": [{"name": "gpu"}]}, Named(generated=True, needless=True)),
        ({"name": "gpu", "fromTheFuture": 1}, {}, None),
    ],
)
def test_the_claim_of_an_entry(entry: Any, status: Any, expected: Named | None) -> None:
    assert named(pod(status=status), entry) == expected


@pytest.mark.parametrize(
    ("made", "found", "expected"),
    [
        (pod(resourceClaims=[GENERATED]), None, True),
        (pod(status=NOTED, resourceClaims=[GENERATED]), None, True),
        (pod(status=NOTED, resourceClaims=[GENERATED]), claim(**OWNED), False),
        (pod(status=NOTED, resourceClaims=[GENERATED]), claim(), False),
        (pod(resourceClaims=[{"name": "g", "resourceClaimName": "own"}]), None, False),
        (pod(resourceClaims=[{"name": "g", "resourceClaimName": "own"}]), claim({"allocation": {"a": 1}}), False),
        (
            pod(resourceClaims=[{"name": "g", "resourceClaimName": "own"}], nodeName="n"),
            claim({"allocation": {"a": 1}}),
            True,
        ),
        (pod(resourceClaims=[{"name": "g", "resourceClaimName": "own"}], nodeName="n"), claim(), False),
        (pod(resourceClaims=[{"name": "g"}]), None, True),
    ],
)
def test_whether_a_pod_needs_work(made: Any, found: Any, expected: bool) -> None:
    assert needs_work(made, lambda *_: found) is expected
    made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert needs_work(made, lambda *_: found) is False


def test_a_pod_that_was_deleted_before_it_was_placed_is_done() -> None:
    waiting = pod()
    waiting["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    placed = pod(nodeName="n")
    placed["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert [done(each) for each in (waiting, placed, pod(), pod(status={"phase": "Failed"}))] == [
        True,
        False,
        False,
        True,
    ]


def test_a_claim_has_room_for_256_consumers() -> None:
    consumers = [{"resource": "pods", "name": f"p{each}", "uid": f"x{each}"} for each in range(256)]
    full = claim({"allocation": {"a": 1}, "reservedFor": consumers})
    assert not to_reserve(pod(), full)
    assert to_reserve(pod(), claim({"allocation": {"a": 1}, "reservedFor": consumers[:-1]}))


@pytest.mark.parametrize(
    ("pod_name", "entry", "expected"),
    [
        ("user", "gpu", "user-gpu-"),
        ("p" * 100, "gpu", "p" * 54 + "-" + "g"),
        ("p" * 50, "c" * 50, "p" * 27 + "-" + "c" * 27),
    ],
)
def test_long_names_are_cut_in_proportion(pod_name: str, entry: str, expected: str) -> None:
    made = new_claim(pod(pod_name), {"name": entry, "resourceClaimTemplateName": "t"}, {"metadata": {}, "spec": {}})
    assert made["metadata"]["generateName"] == expected


def test_statuses_keep_what_was_noted() -> None:
    assert claim_statuses(pod(status=NOTED), {"nic": "user-nic-y"}) == [
        {"name": "gpu", "resourceClaimName": "user-gpu-x"},
        {"name": "nic", "resourceClaimName": "user-nic-y"},
    ]


def test_the_allocation_ends_with_the_last_consumer_if_the_scheduler_made_it() -> None:
    status = {"allocation": {"a": 1}, "reservedFor": [{"uid": "u1"}, {"uid": "u2"}]}
    assert released(claim(status), frozenset()) is None
    assert released(claim(status), frozenset({"u1"})) == {"allocation": {"a": 1}, "reservedFor": [{"uid": "u2"}]}
    assert released(claim(status), frozenset({"u1", "u2"})) == {"allocation": {"a": 1}}
    assert released(claim(status, finalizers=[FINALIZER]), frozenset({"u1", "u2"})) == {}


def test_only_a_controlling_pod_owns_a_claim() -> None:
    reference = OWNED["ownerReferences"][0]
    assert owning_pod(claim(**OWNED)) == ("user", "u1")
    for change in ({"kind": "Job"}, {"apiVersion": "v2"}, {"controller": False}):
        assert owning_pod(claim(ownerReferences=[{**reference, **change}])) is None

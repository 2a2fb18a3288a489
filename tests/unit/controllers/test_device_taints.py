"""When pods have to leave tainted devices."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.controllers.device_taints import claim_end, pod_end, taints_in, tolerates

ADDED = "2026-01-01T00:00:00Z"
AT = 1_767_225_600.0
TAINT = {"key": "k", "value": "v", "effect": "NoExecute", "timeAdded": ADDED}


def claim(*tolerations: Any, reserved: str = "u1") -> dict[str, Any]:
    device = {"driver": "d", "pool": "p", "device": "gpu", "tolerations": list(tolerations)}
    status = {"allocation": {"devices": {"results": [device]}}, "reservedFor": [{"resource": "pods", "uid": reserved}]}
    return {"metadata": {"name": "own", "namespace": "default"}, "spec": {}, "status": status}


def pod(**spec: Any) -> dict[str, Any]:
    claims = [{"name": "gpu", "resourceClaimName": "own"}]
    meta = {"name": "user", "namespace": "default", "uid": "u1"}
    return {"metadata": meta, "spec": {"resourceClaims": claims, "nodeName": "n", **spec}, "status": {}}


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "operator": "Equal", "value": "w"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "k", "operator": "FromTheFuture"}, False),
    ],
)
def test_which_taints_a_toleration_tolerates(toleration: Any, expected: bool) -> None:
    assert tolerates(toleration, TAINT) is expected


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [
        ([], AT),
        ([{"operator": "Exists", "effect": "NoExecute"}], None),
        ([{"operator": "Exists"}], AT),
        ([{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}], AT + 30),
        ([{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": -5}], AT),
        (
            [
                {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
                {"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10},
            ],
            AT + 10,
        ),
    ],
)
def test_when_a_claims_pods_have_to_go(tolerations: list[Any], expected: float | None) -> None:
    assert claim_end(claim(*tolerations), lambda *_: [TAINT]) == expected


def test_only_a_pod_on_a_node_with_its_own_reservation_has_to_go() -> None:
    def end(made: Any, held: Any) -> float | None:
        return pod_end(made, lambda *_: held, lambda *_: [TAINT])

    assert end(pod(), claim()) == AT
    assert end(pod(nodeName=""), claim()) is None
    assert end(pod(), claim(reserved="another")) is None
    assert end(pod(), None) is None
    assert pod_end(pod(), lambda *_: claim(), lambda *_: []) is None


def test_only_the_newest_generation_of_a_pool_counts() -> None:
    def slice(generation: int, *taints: Any) -> dict[str, Any]:
        pool = {"name": "p", "generation": generation}
        return {"metadata": {}, "spec": {"pool": pool, "devices": [{"name": "gpu", "taints": list(taints)}]}}

    assert taints_in([slice(1, TAINT)], "gpu") == [TAINT]
    assert taints_in([slice(1, TAINT), slice(2)], "gpu") == []
    assert taints_in([slice(1), slice(2, TAINT, {**TAINT, "effect": "NoSchedule"})], "gpu") == [TAINT]
    assert taints_in([slice(1, TAINT)], "other") == []
    assert taints_in([], "gpu") == []

"""How far a node reaches by way of its pods, and where NodeRestriction stops it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.apiserver.admission.node_restriction import NodeRestriction
from tiphys.apiserver.authz import NodeAuthorizer
from tiphys.apiserver.types import RequestInfo
from tiphys.base.errors import Forbidden
from tiphys.base.identity import User

NODE = User("system:node:n1", groups=("system:nodes",))
CLAIM_VOLUME = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}


def pod(reader: Any, name: str = "p", *, node: str = "n1", status: Any = None, notes: Any = None, **spec: Any) -> Any:
    meta = {"name": name, "namespace": "default", "uid": "p1", "annotations": notes or {}}
    return reader.add("", "pods", {"metadata": meta, "spec": {"nodeName": node, **spec}, "status": status or {}})


def may(reader: Any, verb: str, plural: str, name: str = "", group: str = "", namespace: str = "", **more: Any) -> bool:
    info = RequestInfo(verb, "", True, group, "v1", namespace, plural, name=name, **more)
    return asyncio.run(NodeAuthorizer(reader).authorize(NODE, info))[0]


def test_a_volume_brings_its_own_secrets_once_it_is_bound(reader: Any) -> None:
    pod(reader, volumes=[CLAIM_VOLUME])
    secrets = {
        "nodeStageSecretRef": {"name": "stage", "namespace": "storage"},
        "controllerExpandSecretRef": {"name": "c"},
    }
    reader.add(
        "",
        "persistentvolumeclaims",
        {"metadata": {"name": "data", "namespace": "default"}, "spec": {"volumeName": "pv"}},
    )
    spec: dict[str, Any] = {"csi": {"driver": "d", **secrets}, "claimRef": {"namespace": "default", "name": "other"}}
    reader.add("", "persistentvolumes", {"metadata": {"name": "pv"}, "spec": spec})
    assert not may(reader, "get", "secrets", "stage", namespace="storage"), "a claim that says so is not enough"
    spec["claimRef"]["name"] = "data"
    assert may(reader, "get", "secrets", "stage", namespace="storage")
    assert not may(reader, "get", "secrets", "c", namespace="default"), "what only controllers need"
    assert may(reader, "get", "persistentvolumes", "pv")
    assert not may(reader, "list", "persistentvolumes")


def test_resource_claims_are_those_of_own_pods(reader: Any) -> None:
    entries = [{"name": "gpu", "resourceClaimName": "mine"}, {"name": "made", "resourceClaimTemplateName": "t"}]
    made = {"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "p-made-x"}]}
    pod(reader, resourceClaims=entries, status=made)
    for name, expected in (("mine", True), ("p-made-x", True), ("t", False)):
        found = may(reader, "get", "resourceclaims", name, group="resource.k8s.io", namespace="default")
        assert found is expected, name


def test_slices_are_its_own_or_selected_by_its_name(reader: Any) -> None:
    for name, node in (("a", "n1"), ("b", "n2")):
        reader.add("resource.k8s.io", "resourceslices", {"metadata": {"name": name}, "spec": {"nodeName": node}})
    group = "resource.k8s.io"
    assert may(reader, "delete", "resourceslices", "a", group=group)
    assert not may(reader, "delete", "resourceslices", "b", group=group)
    assert may(reader, "list", "resourceslices", group=group, field_selector="spec.nodeName=n1")
    assert not may(reader, "list", "resourceslices", group=group, field_selector="spec.nodeName!=n1")
    assert not may(reader, "list", "resourceslices", group=group, field_selector="spec.nodeName=n2")


def test_lists_of_pods_are_of_this_node(reader: Any) -> None:
    for selector, expected in (
        ("spec.nodeName=n1", True),
        ("spec.nodeName==n1,status.phase!=Failed", True),
        ("spec.nodeName=n1\\,x", False),
        ("metadata.name=a,spec.nodeName=n2", False),
        ("", False),
    ):
        assert may(reader, "list", "pods", field_selector=selector) is expected, selector


def test_mirror_pods_lead_nowhere(reader: Any) -> None:
    volume = {"name": "v", "secret": {"secretName": "s"}}
    pod(reader, volumes=[volume], notes={"kubernetes.io/config.mirror": "x"})
    assert not may(reader, "get", "secrets", "s", namespace="default")
    pod(reader, "q", volumes=[volume])
    assert may(reader, "get", "secrets", "s", namespace="default")


def refused(reader: Any, attributes: Any) -> str:
    with pytest.raises(Forbidden) as caught:
        asyncio.run(NodeRestriction(reader).admit(attributes))
    return caught.value.message


def test_a_node_leaves_more_than_a_claims_status_alone(reader: Any, attributes: Any) -> None:
    def claim(**metadata: Any) -> dict[str, Any]:
        return {"metadata": {"name": "c", "namespace": "default", **metadata}, "status": {"capacity": {}}}

    def update(new: dict[str, Any]) -> Any:
        return attributes(
            "UPDATE",
            "persistentvolumeclaims",
            new,
            claim(),
            namespace="default",
            name="c",
            subresource="status",
            user=NODE,
        )

    asyncio.run(NodeRestriction(reader).admit(update({**claim(), "status": {"capacity": {"storage": "1Gi"}}})))
    assert "fields other than status.quantity" in refused(reader, update(claim(labels={"a": "b"})))
    assert "fields other than status.quantity" in refused(reader, update({**claim(), "status": {"phase": "Lost"}}))


def test_a_node_does_not_choose_the_resource_claims_of_a_pod(reader: Any, attributes: Any) -> None:
    old = pod(reader)
    new = {**old, "status": {"resourceClaimStatuses": [{"name": "x", "resourceClaimName": "theirs"}]}}
    asked = attributes("UPDATE", "pods", new, old, namespace="default", name="p", subresource="status", user=NODE)
    assert refused(reader, asked).endswith('node "n1" cannot update resource claim statues')


def test_a_node_makes_slices_of_itself_only(reader: Any, attributes: Any) -> None:
    for node in ("n2", None):
        asked = attributes(
            "CREATE", "resourceslices", {"metadata": {}, "spec": {"nodeName": node}}, group="resource.k8s.io", user=NODE
        )
        assert "can only create ResourceSlice with the same NodeName" in refused(reader, asked)


def test_tokens_are_for_audiences_that_the_pod_or_its_driver_wants(reader: Any, attributes: Any) -> None:
    pod(reader, volumes=[{"name": "v", "csi": {"driver": "d"}}], serviceAccountName="sa")
    reader.add(
        "storage.k8s.io", "csidrivers", {"metadata": {"name": "d"}, "spec": {"tokenRequests": [{"audience": "vault"}]}}
    )
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p1"}

    def asked(audience: str) -> Any:
        body = {"metadata": {}, "spec": {"audiences": [audience], "boundObjectRef": reference}}
        return attributes(
            "CREATE", "serviceaccounts", body, namespace="default", name="sa", subresource="token", user=NODE
        )

    asyncio.run(NodeRestriction(reader).admit(asked("vault")))
    assert 'audience "other" not found in pod spec volume' in refused(reader, asked("other"))

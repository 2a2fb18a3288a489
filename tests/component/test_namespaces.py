"""Namespaces that are deleted, with all kinds of content, on the real API server, on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.base.errors import ApiError, Forbidden
from tiphys.client.resources import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from tiphys.client.types import MERGE_PATCH, Object, Resource
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

API_SERVICES = Resource("apiregistration.k8s.io", "v1", "apiservices", namespaced=False)
THINGS = Resource("example.com", "v1", "things")
FINE = {
    "NamespaceDeletionDiscoveryFailure",
    "NamespaceDeletionGroupVersionParsingFailure",
    "NamespaceDeletionContentFailure",
    "NamespaceContentRemaining",
    "NamespaceFinalizersRemaining",
}


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], **options: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, **options) as cluster:
            await cluster.client.create(NAMESPACES, {"kind": "Namespace", "metadata": {"name": "apps"}})
            await cluster.wait(SERVICE_ACCOUNTS, "apps", "default", timeout=10)
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def thing(kind: str, name: str, **meta: Any) -> dict[str, Any]:
    version = "example.com/v1" if kind == "Thing" else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "apps", **meta}}


def definition() -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "names": names, "scope": "Namespaced", "versions": [version]},
    }


def pod(name: str, grace: int, **meta: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "nginx"}], "terminationGracePeriodSeconds": grace, "nodeName": "far"}
    return {**thing("Pod", name, **meta), "spec": spec}


def true(held: Object) -> dict[str, str]:
    """Messages of the conditions that hold."""
    conditions = held["status"].get("conditions") or ()
    return {each["type"]: each["message"] for each in conditions if each["status"] == "True"}


async def established(cluster: Cluster) -> None:
    await cluster.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition())

    def served(held: Object) -> bool:
        conditions = (held.get("status") or {}).get("conditions") or ()
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

    await cluster.wait(CUSTOM_RESOURCE_DEFINITIONS, "", "things.example.com", served)


def test_custom_objects_go_with_their_namespace() -> None:
    async def scenario(cluster: Cluster) -> None:
        await established(cluster)
        await cluster.client.create(THINGS, thing("Thing", "one", finalizers=["example.com/wait"]))
        await cluster.client.create(THINGS, thing("Thing", "two"))
        await cluster.client.delete(NAMESPACES, "apps")
        held = await cluster.wait(NAMESPACES, "", "apps", lambda each: bool(true(each)), 30)
        assert true(held) == {
            "NamespaceContentRemaining": "Some resources are remaining: things.example.com has 1 resource instances",
            "NamespaceFinalizersRemaining": "Some content in the namespace has finalizers remaining: "
            "example.com/wait in 1 resource instances",
        }
        await cluster.client.patch(THINGS, "one", {"metadata": {"finalizers": None}}, "apps", type=MERGE_PATCH)
        await cluster.wait_gone(NAMESPACES, "", "apps", timeout=9)

    play(scenario)


def test_nothing_else_is_deleted_until_the_last_pod_has_gone() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("slow", 20))
        await cluster.client.create(PODS, pod("held", 5, finalizers=["example.com/wait"]))
        await cluster.client.create(SECRETS, thing("Secret", "used"))
        await cluster.client.delete(NAMESPACES, "apps")
        await cluster.clock.sleep(15)
        held = await cluster.client.get(NAMESPACES, "apps")
        assert true(held) == {}
        assert {each["type"] for each in held["status"]["conditions"]} == FINE
        assert await cluster.exists(SECRETS, "apps", "used")
        await cluster.client.delete(PODS, "slow", "apps", grace_seconds=0)
        await cluster.client.patch(PODS, "held", {"metadata": {"finalizers": None}}, "apps", type=MERGE_PATCH)
        await cluster.client.delete(PODS, "held", "apps", grace_seconds=0)
        await cluster.wait_gone(NAMESPACES, "", "apps", timeout=1)

    play(scenario, controllers="*,-pod-garbage-collector-controller")


def test_a_pod_that_outlives_its_time_is_told_as_a_failure() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("stuck", 5))
        await cluster.client.delete(NAMESPACES, "apps")
        held = await cluster.wait(NAMESPACES, "", "apps", lambda each: bool(true(each)), 60)
        assert true(held) == {
            "NamespaceDeletionContentFailure": "Failed to delete all resource types, 1 remaining: unexpected items "
            "still remain in namespace: apps for gvr: /v1, Resource=pods"
        }
        await cluster.client.delete(PODS, "stuck", "apps", grace_seconds=0)
        await cluster.wait_gone(NAMESPACES, "", "apps", timeout=1)

    play(scenario, controllers="*,-pod-garbage-collector-controller")


def test_a_group_whose_server_is_down_holds_the_namespace_but_not_the_rest() -> None:
    async def scenario(cluster: Cluster) -> None:
        spec = {"group": "down.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10}
        service = {"name": "nobody", "namespace": "default"}
        meta = {"name": "v1.down.example.com"}
        wanted = {"metadata": meta, "spec": {**spec, "insecureSkipTLSVerify": True, "service": service}}
        await cluster.client.create(API_SERVICES, {"kind": "APIService", **wanted})
        await cluster.clock.sleep(1)
        await cluster.client.create(SECRETS, thing("Secret", "one"))
        await cluster.client.delete(NAMESPACES, "apps")
        held = await cluster.wait(NAMESPACES, "", "apps", lambda each: bool(true(each)), 10)
        assert true(held) == {
            "NamespaceDeletionDiscoveryFailure": "Discovery failed for some groups, 1 failing: unable to retrieve "
            "the complete list of server APIs: down.example.com/v1: stale GroupVersion discovery: down.example.com/v1"
        }
        assert not await cluster.exists(SECRETS, "apps", "one")
        await cluster.client.delete(API_SERVICES, "v1.down.example.com")
        await cluster.wait_gone(NAMESPACES, "", "apps", timeout=60)

    play(scenario)


def test_others_may_keep_an_empty_namespace() -> None:
    async def scenario(cluster: Cluster) -> None:
        held = dict(await cluster.client.get(NAMESPACES, "apps"))
        held["spec"] = {"finalizers": [*held["spec"]["finalizers"], "example.com/mine"]}
        await cluster.client.update(NAMESPACES, held, subresource="finalize")
        await cluster.client.create(SECRETS, thing("Secret", "one"))
        await cluster.client.delete(NAMESPACES, "apps")
        left = await cluster.wait(NAMESPACES, "", "apps", lambda each: len(each["spec"]["finalizers"]) == 1, 10)
        assert left["spec"]["finalizers"] == ["example.com/mine"]
        assert true(left) == {}
        assert not await cluster.exists(SECRETS, "apps", "one")
        await cluster.clock.sleep(60)
        assert await cluster.client.get(NAMESPACES, "apps") == left
        await cluster.client.update(NAMESPACES, {**left, "spec": {}}, subresource="finalize")
        await cluster.wait_gone(NAMESPACES, "", "apps", timeout=1)

    play(scenario)


def test_nothing_is_created_in_a_namespace_that_goes() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SECRETS, thing("Secret", "one", finalizers=["example.com/wait"]))
        await cluster.client.delete(NAMESPACES, "apps")
        with pytest.raises(Forbidden) as refused:
            await cluster.client.create(CONFIG_MAPS, thing("ConfigMap", "late"))
        assert refused.value.details["causes"][0]["reason"] == "NamespaceTerminating"
        assert str(refused.value) == (
            'configmaps "late" is forbidden: unable to create new content in namespace apps because it is being '
            "terminated"
        )

    play(scenario)


def test_a_waiting_namespace_is_written_once() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SECRETS, thing("Secret", "one", finalizers=["example.com/wait"]))
        await cluster.client.delete(NAMESPACES, "apps")
        held = await cluster.wait(NAMESPACES, "", "apps", lambda each: bool(true(each)), 10)
        await cluster.clock.sleep(3600)
        assert await cluster.client.get(NAMESPACES, "apps") == held

    play(scenario)


def test_a_failing_deletion_is_told_and_tried_again() -> None:
    policies = Resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", namespaced=False)
    bindings = Resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings", namespaced=False)
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["secrets"]}
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "false", "message": "keep it"}],
    }

    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SECRETS, thing("Secret", "one"))
        meta = {"name": "keep"}
        await cluster.client.create(policies, {"kind": "ValidatingAdmissionPolicy", "metadata": meta, "spec": spec})
        bound = {"policyName": "keep", "validationActions": ["Deny"]}
        binding = {"kind": "ValidatingAdmissionPolicyBinding", "metadata": meta, "spec": bound}
        await cluster.client.create(bindings, binding)
        await cluster.clock.sleep(1)
        with pytest.raises(ApiError, match="keep it"):
            await cluster.client.delete(SECRETS, "one", "apps")
        await cluster.client.delete(NAMESPACES, "apps")
        held = await cluster.wait(NAMESPACES, "", "apps", lambda each: bool(true(each)), 10)
        assert "keep it" in true(held)["NamespaceDeletionContentFailure"]
        await cluster.client.delete(bindings, "keep")
        await cluster.wait_gone(NAMESPACES, "", "apps", timeout=61)

    play(scenario)

"""Namespaces, ownership and nodes on the real API server, on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.client.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
)
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.controllers.clusterrole_aggregation import CLUSTER_ROLES
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], **options: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, **options) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def config_map(name: str, *owners: Object, namespace: str = NS, block: bool = False, **meta: Any) -> dict[str, Any]:
    references = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": block,
        }
        for owner in owners
    ]
    full = {"name": name, "namespace": namespace, "ownerReferences": references, **meta}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": full}


def pod(name: str, node: str = "", **spec: Any) -> dict[str, Any]:
    wanted = {"containers": [{"name": "c", "image": "nginx"}], **({"nodeName": node} if node else {}), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NS}, "spec": wanted}


def deployment(name: str = "web") -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NS}, "spec": spec}


async def names(cluster: Cluster) -> set[str]:
    listing = await cluster.client.list(CONFIG_MAPS, NS)
    return {item["metadata"]["name"] for item in listing.items} - {"kube-root-ca.crt"}


def test_a_new_namespace_gets_an_account_and_the_root_certificate_back_if_they_are_deleted() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps"}})
        await cluster.wait(SERVICE_ACCOUNTS, "apps", "default", timeout=10)
        held = await cluster.wait(CONFIG_MAPS, "apps", "kube-root-ca.crt", timeout=10)
        assert held["data"] == {"ca.crt": "test certificate"}
        await cluster.client.delete(SERVICE_ACCOUNTS, "default", "apps")
        await cluster.client.patch(CONFIG_MAPS, "kube-root-ca.crt", {"data": {"ca.crt": "x"}}, "apps", type=MERGE_PATCH)
        await cluster.wait(SERVICE_ACCOUNTS, "apps", "default", timeout=10)
        await cluster.wait(CONFIG_MAPS, "apps", "kube-root-ca.crt", lambda obj: obj == {**obj, "data": held["data"]})

    play(scenario)


def test_deleting_a_namespace_deletes_what_is_in_it_pods_first() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps"}})
        await cluster.wait(SERVICE_ACCOUNTS, "apps", "default", timeout=10)
        await cluster.client.create(CONFIG_MAPS, config_map("mine", namespace="apps"))
        wanted = {**pod("one"), "metadata": {"name": "one", "namespace": "apps"}}
        await cluster.client.create(PODS, wanted)
        await cluster.wait(PODS, "apps", "one", lambda obj: obj["status"]["phase"] == "Running")
        await cluster.client.delete(NAMESPACES, "apps")
        await cluster.wait_gone(NAMESPACES, "", "apps", timeout=60)
        assert (await cluster.client.list(PODS, "apps")).items == ()
        assert (await cluster.client.list(CONFIG_MAPS, "apps")).items == ()

    play(scenario)


def test_a_namespace_that_cannot_go_says_why() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps"}})
        held = config_map("held", namespace="apps", finalizers=["example.com/wait"])
        await cluster.client.create(CONFIG_MAPS, held)
        await cluster.client.delete(NAMESPACES, "apps")

        def tells(obj: Object) -> bool:
            conditions = {each["type"]: each for each in obj["status"].get("conditions") or ()}
            return bool(conditions.get("NamespaceFinalizersRemaining", {}).get("status") == "True")

        told = await cluster.wait(NAMESPACES, "", "apps", tells, timeout=60)
        messages = {each["type"]: each["message"] for each in told["status"]["conditions"]}
        assert messages["NamespaceContentRemaining"] == (
            "Some resources are remaining: configmaps. has 1 resource instances"
        )
        assert messages["NamespaceFinalizersRemaining"] == (
            "Some content in the namespace has finalizers remaining: example.com/wait in 1 resource instances"
        )
        await cluster.client.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, "apps", type=MERGE_PATCH)
        await cluster.wait_gone(NAMESPACES, "", "apps", timeout=60)

    play(scenario)


def test_what_loses_its_last_owner_is_deleted_down_the_chain() -> None:
    async def scenario(cluster: Cluster) -> None:
        one = await cluster.client.create(CONFIG_MAPS, config_map("one"))
        other = await cluster.client.create(CONFIG_MAPS, config_map("other"))
        child = await cluster.client.create(CONFIG_MAPS, config_map("child", one))
        await cluster.client.create(CONFIG_MAPS, config_map("grandchild", child))
        await cluster.client.create(CONFIG_MAPS, config_map("shared", one, other))
        await cluster.clock.sleep(5)
        assert await names(cluster) == {"one", "other", "child", "grandchild", "shared"}
        await cluster.client.delete(CONFIG_MAPS, "one", NS)
        await cluster.clock.sleep(5)
        assert await names(cluster) == {"other", "shared"}
        shared = await cluster.client.get(CONFIG_MAPS, "shared", NS)
        assert [each["name"] for each in shared["metadata"]["ownerReferences"]] == ["other"]

    play(scenario)


def test_an_owner_that_never_existed_counts_as_gone() -> None:
    async def scenario(cluster: Cluster) -> None:
        ghost = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ghost", "uid": "no-such-uid"}}
        await cluster.client.create(CONFIG_MAPS, config_map("child", ghost))
        await cluster.wait_gone(CONFIG_MAPS, NS, "child", timeout=10)

    play(scenario)


def test_foreground_deletion_waits_for_blocking_dependents() -> None:
    async def scenario(cluster: Cluster) -> None:
        owner = await cluster.client.create(CONFIG_MAPS, config_map("owner"))
        held = config_map("child", owner, block=True, finalizers=["example.com/wait"])
        await cluster.client.create(CONFIG_MAPS, held)
        await cluster.clock.sleep(1)
        await cluster.client.delete(CONFIG_MAPS, "owner", NS, propagation="Foreground")
        await cluster.clock.sleep(30)
        child = await cluster.client.get(CONFIG_MAPS, "child", NS)
        assert child["metadata"]["deletionTimestamp"]
        assert await cluster.exists(CONFIG_MAPS, NS, "owner")
        await cluster.client.patch(CONFIG_MAPS, "child", {"metadata": {"finalizers": None}}, NS, type=MERGE_PATCH)
        await cluster.wait_gone(CONFIG_MAPS, NS, "owner", timeout=30)

    play(scenario)


def test_owners_in_a_circle_do_not_keep_each_other() -> None:
    async def scenario(cluster: Cluster) -> None:
        first = await cluster.client.create(CONFIG_MAPS, config_map("first"))
        second = await cluster.client.create(CONFIG_MAPS, config_map("second", first, block=True))
        third = await cluster.client.create(CONFIG_MAPS, config_map("third", second, block=True))
        owners = config_map("first", third, block=True)["metadata"]["ownerReferences"]
        patch = {"metadata": {"ownerReferences": owners}}
        await cluster.client.patch(CONFIG_MAPS, "first", patch, NS, type=MERGE_PATCH)
        await cluster.clock.sleep(1)
        await cluster.client.delete(CONFIG_MAPS, "first", NS, propagation="Foreground")
        for name in ("first", "second", "third"):
            await cluster.wait_gone(CONFIG_MAPS, NS, name, timeout=30)

    play(scenario)


def test_a_dependent_with_another_owner_outlives_a_foreground_deletion() -> None:
    async def scenario(cluster: Cluster) -> None:
        one = await cluster.client.create(CONFIG_MAPS, config_map("one"))
        other = await cluster.client.create(CONFIG_MAPS, config_map("other"))
        await cluster.client.create(CONFIG_MAPS, config_map("shared", one, other, block=True))
        await cluster.client.create(CONFIG_MAPS, config_map("own", one, block=True))
        await cluster.clock.sleep(1)
        await cluster.client.delete(CONFIG_MAPS, "one", NS, propagation="Foreground")
        await cluster.wait_gone(CONFIG_MAPS, NS, "one", timeout=30)
        assert await names(cluster) == {"other", "shared"}
        assert "deletionTimestamp" not in (await cluster.client.get(CONFIG_MAPS, "shared", NS))["metadata"]

    play(scenario)


def test_orphaned_dependents_stay() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(DEPLOYMENTS, deployment())
        await cluster.wait(DEPLOYMENTS, NS, "web", lambda obj: (obj.get("status") or {}).get("readyReplicas") == 2)
        await cluster.client.delete(DEPLOYMENTS, "web", NS, propagation="Orphan")
        await cluster.wait_gone(DEPLOYMENTS, NS, "web", timeout=30)
        (replica_set,) = (await cluster.client.list(REPLICA_SETS, NS)).items
        assert not replica_set["metadata"].get("ownerReferences")
        assert len((await cluster.client.list(PODS, NS)).items) == 2

    play(scenario)


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
def test_deleting_a_deployment_deletes_its_replica_sets_and_pods(propagation: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(DEPLOYMENTS, deployment())
        await cluster.wait(DEPLOYMENTS, NS, "web", lambda obj: (obj.get("status") or {}).get("readyReplicas") == 2)
        await cluster.client.delete(DEPLOYMENTS, "web", NS, propagation=propagation)
        await cluster.wait_gone(DEPLOYMENTS, NS, "web", timeout=60)
        await cluster.clock.sleep(60)
        assert (await cluster.client.list(REPLICA_SETS, NS)).items == ()
        assert (await cluster.client.list(PODS, NS)).items == ()

    play(scenario)


def ready(value: str) -> Callable[[Object], bool]:
    def check(node: Object) -> bool:
        return any(each["type"] == "Ready" and each["status"] == value for each in node["status"]["conditions"])

    return check


def taints(node: Object) -> set[tuple[str, str]]:
    return {(each["key"].partition("/")[2], each["effect"]) for each in node["spec"].get("taints") or ()}


def test_a_new_node_is_free_of_its_initial_taint_and_keeps_only_its_own() -> None:
    async def scenario(cluster: Cluster) -> None:
        mine = [{"key": "example.com/mine", "effect": "NoSchedule"}]
        await cluster.nodes.add("node-2", taints=mine)
        node = await cluster.wait(NODES, "", "node-2", lambda obj: taints(obj) == {("mine", "NoSchedule")}, timeout=10)
        assert node["metadata"]["labels"]["beta.kubernetes.io/os"] == "linux"

    play(scenario)


def test_a_silent_node_is_unknown_after_its_grace_and_its_pods_are_evicted_when_their_patience_ends() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("patient", "node-2"))
        brief = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 20}
        await cluster.client.create(PODS, pod("brief", "node-2", tolerations=[brief]))
        await cluster.client.create(PODS, pod("elsewhere", "node-1"))
        await cluster.clock.sleep(20)
        silent_at = cluster.clock.monotonic()
        cluster.nodes.silence("node-2")
        node = await cluster.wait(NODES, "", "node-2", ready("Unknown"), timeout=100)
        assert 40 <= cluster.clock.monotonic() - silent_at <= 51
        assert node["status"]["conditions"][0]["reason"] == "NodeStatusUnknown"
        await cluster.clock.sleep(1)
        node = await cluster.client.get(NODES, "node-2")
        assert taints(node) == {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
        brief_pod = await cluster.client.get(PODS, "brief", NS)
        assert ready("False")(brief_pod)
        await cluster.clock.sleep(25)
        assert (await cluster.client.get(PODS, "brief", NS))["metadata"]["deletionTimestamp"]
        assert "deletionTimestamp" not in (await cluster.client.get(PODS, "patient", NS))["metadata"]
        await cluster.clock.sleep(300)
        assert (await cluster.client.get(PODS, "patient", NS))["metadata"]["deletionTimestamp"]
        assert "deletionTimestamp" not in (await cluster.client.get(PODS, "elsewhere", NS))["metadata"]

    play(scenario, nodes=3)


def test_a_node_that_comes_back_in_time_keeps_its_pods() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("patient", "node-2"))
        await cluster.clock.sleep(20)
        cluster.nodes.silence("node-2")
        await cluster.wait(NODES, "", "node-2", ready("Unknown"), timeout=100)
        await cluster.clock.sleep(60)
        await cluster.nodes.revive("node-2")
        await cluster.wait(NODES, "", "node-2", lambda obj: not taints(obj), timeout=10)
        await cluster.clock.sleep(400)
        assert "deletionTimestamp" not in (await cluster.client.get(PODS, "patient", NS))["metadata"]
        messages = [each["message"] for each in (await cluster.client.list(EVENTS, NS)).items]
        assert "Cancelling deletion of Pod default/patient" in messages

    play(scenario, nodes=3)


def test_when_no_node_is_ready_nobody_is_evicted() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.clock.sleep(20)
        cluster.nodes.silence("node-1")
        cluster.nodes.silence("node-2")
        await cluster.clock.sleep(600)
        for name in ("node-1", "node-2"):
            node = await cluster.client.get(NODES, name)
            assert ("unreachable", "NoSchedule") in taints(node)
            assert ("unreachable", "NoExecute") not in taints(node)

    play(scenario, nodes=2)


def test_pods_of_a_deleted_node_are_deleted_after_a_quarantine() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("one", "node-2"))
        await cluster.clock.sleep(5)
        await cluster.nodes.remove("node-2")
        await cluster.clock.sleep(30)
        assert await cluster.exists(PODS, NS, "one")
        await cluster.wait_gone(PODS, NS, "one", timeout=30)

    play(scenario, nodes=2)


def test_a_terminating_pod_that_never_got_a_node_is_deleted() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("one"))
        await cluster.client.delete(PODS, "one", NS)
        await cluster.wait_gone(PODS, NS, "one", timeout=10)

    play(scenario, nodes=0)


def test_each_node_gets_its_own_range_of_pod_addresses() -> None:
    async def scenario(cluster: Cluster) -> None:
        ranges = set()
        for number in range(1, 4):
            node = await cluster.wait(NODES, "", f"node-{number}", lambda obj: bool(obj["spec"].get("podCIDR")))
            ranges.add(node["spec"]["podCIDR"])
            assert node["spec"]["podCIDRs"] == [node["spec"]["podCIDR"]]
        assert ranges == {"10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"}

    play(scenario, nodes=3, settings={"cluster-cidr": "10.244.0.0/16", "root-ca": "x"})


def test_an_aggregated_role_has_the_rules_of_all_that_match() -> None:
    def role(name: str, labels: dict[str, str], verbs: list[str], **fields: Any) -> dict[str, Any]:
        rules = [{"apiGroups": ["example.com"], "resources": ["things"], "verbs": verbs}] if verbs else None
        kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
        return {**kind, "metadata": {"name": name, "labels": labels}, "rules": rules, **fields}

    async def scenario(cluster: Cluster) -> None:
        selector = {"matchLabels": {"part": "of-all"}}
        whole = role("all-things", {}, [], aggregationRule={"clusterRoleSelectors": [selector]})
        await cluster.client.create(CLUSTER_ROLES, whole)
        await cluster.client.create(CLUSTER_ROLES, role("things-read", {"part": "of-all"}, ["get"]))
        await cluster.client.create(CLUSTER_ROLES, role("things-write", {"part": "of-all"}, ["update"]))
        await cluster.wait(CLUSTER_ROLES, "", "all-things", lambda obj: len(obj.get("rules") or ()) == 2, timeout=10)
        admin = await cluster.client.get(CLUSTER_ROLES, "admin")
        assert any("deployments" in rule["resources"] for rule in admin["rules"])

    play(scenario)

"""Pods with claims on the real API server with the real binder of volumes, on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.client.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
)
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
STORAGE = "persistentvolume-binder-controller,ephemeral-volume-controller,pvc-protection"
CONTROLLERS = f"namespace,serviceaccount,nodelifecycle,{STORAGE}"
SELECTED = "volume.kubernetes.io/selected-node"


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=3, controllers=CONTROLLERS, binder="scheduler") as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def storage_class(name: str = "late", mode: str = "WaitForFirstConsumer", **more: Any) -> dict[str, Any]:
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    return {**kind, "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": mode, **more}


def volume(name: str, node: str = "", size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    only = [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]
    affinity = {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": only}]}}} if node else {}
    made = {
        "capacity": {"storage": size},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "late",
        **({"local": {"path": "/disk"}} if node else {"hostPath": {"path": "/disk"}}),
        **affinity,
        **spec,
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": made}


def claim(name: str, size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    made = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "late",
        "resources": {"requests": {"storage": size}},
        **spec,
    }
    meta = {"name": name, "namespace": NS}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": made}


def pod(name: str, *claims: str, **spec: Any) -> dict[str, Any]:
    volumes = [{"name": each, "persistentVolumeClaim": {"claimName": each}} for each in claims]
    containers = [{"name": "c", "image": "nginx"}]
    meta = {"name": name, "namespace": NS}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": containers, "volumes": volumes, **spec},
    }


def on(node: str = "") -> Callable[[Object], bool]:
    return lambda pod: pod["spec"].get("nodeName") == node if node else bool(pod["spec"].get("nodeName"))


def waits(text: str) -> Callable[[Object], bool]:
    def holds(pod: Object) -> bool:
        found = (pod.get("status") or {}).get("conditions") or ()
        return any(each["type"] == "PodScheduled" and text in each.get("message", "") for each in found)

    return holds


def bound_to(name: str) -> Callable[[Object], bool]:
    return lambda claim: claim["spec"].get("volumeName") == name and claim["status"].get("phase") == "Bound"


def test_a_pod_follows_the_volume_that_its_claim_is_bound_to() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PERSISTENT_VOLUMES, volume("disk", "node-2", storageClassName="now"))
        await cluster.client.create(STORAGE_CLASSES, storage_class("now", "Immediate"))
        await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, claim("data", storageClassName="now"))
        await cluster.client.create(PODS, pod("p", "data"))
        await cluster.wait(PODS, NS, "p", on("node-2"), timeout=60)
        blocked = pod("q", "data", nodeSelector={"kubernetes.io/hostname": "node-1"})
        await cluster.client.create(PODS, blocked)
        await cluster.wait(PODS, NS, "q", waits("1 node(s) had volume node affinity conflict"), timeout=60)

    play(scenario)


def test_a_claim_that_waits_gets_a_volume_where_the_pod_can_go() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STORAGE_CLASSES, storage_class())
        for number in (1, 2, 3):
            await cluster.client.create(PERSISTENT_VOLUMES, volume(f"disk-{number}", f"node-{number}"))
        await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, claim("data"))
        await cluster.clock.sleep(60)
        assert (await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, "data", NS))["status"]["phase"] == "Pending"
        await cluster.client.create(PODS, pod("p", "data", nodeSelector={"kubernetes.io/hostname": "node-3"}))
        await cluster.wait(PODS, NS, "p", on("node-3"), timeout=60)
        await cluster.wait(PERSISTENT_VOLUME_CLAIMS, NS, "data", bound_to("disk-3"), timeout=1)

    play(scenario)


def test_many_pods_at_once_get_a_volume_each() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STORAGE_CLASSES, storage_class())
        for number in range(9):
            await cluster.client.create(PERSISTENT_VOLUMES, volume(f"disk-{number}", f"node-{number % 3 + 1}"))
            await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, claim(f"data-{number}"))
        for number in range(9):
            await cluster.client.create(PODS, pod(f"p-{number}", f"data-{number}"))
        for number in range(9):
            await cluster.wait(PODS, NS, f"p-{number}", on(), timeout=60)
        claims = (await cluster.client.list(PERSISTENT_VOLUME_CLAIMS, NS)).items
        assert len({each["spec"]["volumeName"] for each in claims}) == 9
        await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, claim("more"))
        await cluster.client.create(PODS, pod("late", "more"))
        await cluster.wait(PODS, NS, "late", waits("3 node(s) didn't find available persistent volumes to bind"))
        await cluster.client.create(PERSISTENT_VOLUMES, volume("another", "node-1"))
        await cluster.wait(PODS, NS, "late", on("node-1"), timeout=60)

    play(scenario)


def test_two_claims_of_a_pod_get_two_volumes_of_one_node_the_smallest_that_fit() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STORAGE_CLASSES, storage_class())
        for name, node, size in (
            ("a", "node-1", "9Gi"),
            ("b", "node-2", "9Gi"),
            ("c", "node-2", "2Gi"),
            ("d", "", "1Mi"),
        ):
            await cluster.client.create(PERSISTENT_VOLUMES, volume(name, node, size))
        for name in ("one", "two"):
            await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, claim(name))
        await cluster.client.create(PODS, pod("p", "one", "two"))
        await cluster.wait(PODS, NS, "p", on("node-2"), timeout=60)
        await cluster.wait(PERSISTENT_VOLUME_CLAIMS, NS, "one", bound_to("c"), timeout=1)
        await cluster.wait(PERSISTENT_VOLUME_CLAIMS, NS, "two", bound_to("b"), timeout=1)

    play(scenario)


@pytest.mark.parametrize("fails", [False, True])
def test_a_provisioner_is_told_the_node_and_the_pod_bound_when_it_is_done(fails: bool) -> None:
    async def scenario(cluster: Cluster) -> None:
        node = [{"matchLabelExpressions": [{"key": "kubernetes.io/hostname", "values": ["node-2"]}]}]
        made = storage_class(provisioner="disks.example.com", allowedTopologies=node)
        await cluster.client.create(STORAGE_CLASSES, made)
        await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, claim("data"))
        await cluster.client.create(PODS, pod("p", "data"))
        chosen = await cluster.wait(PERSISTENT_VOLUME_CLAIMS, NS, "data", selected, timeout=60)
        assert chosen["metadata"]["annotations"][SELECTED] == "node-2"
        await cluster.clock.sleep(30)
        assert not (await cluster.client.get(PODS, "p", NS))["spec"].get("nodeName")
        if fails:  # a provisioner that cannot do it there takes the choice back
            patch = {"metadata": {"annotations": {SELECTED: None}}}
            await cluster.client.patch(PERSISTENT_VOLUME_CLAIMS, "data", patch, NS, type=MERGE_PATCH)
            await cluster.wait(PERSISTENT_VOLUME_CLAIMS, NS, "data", selected, timeout=60)
        reference = {key: chosen["metadata"][key] for key in ("namespace", "name", "uid")}
        await cluster.client.create(PERSISTENT_VOLUMES, volume("made", "node-2", claimRef=reference))
        await cluster.wait(PODS, NS, "p", on("node-2"), timeout=60)

    play(scenario)


def selected(claim: Object) -> bool:
    return SELECTED in (claim["metadata"].get("annotations") or {})


def test_a_pod_without_its_claim_says_so_and_goes_on_when_it_is_there() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("p", "data"))
        text = '0/3 nodes are available: persistentvolumeclaim "data" not found.'
        await cluster.wait(PODS, NS, "p", waits(text), timeout=60)
        await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, claim("data", storageClassName=""))
        text = "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."
        await cluster.wait(PODS, NS, "p", waits(text), timeout=60)
        await cluster.client.create(PERSISTENT_VOLUMES, volume("disk", storageClassName=""))
        await cluster.wait(PODS, NS, "p", on(), timeout=60)

    play(scenario)


def test_a_claim_for_one_pod_alone_keeps_others_waiting_until_that_pod_is_gone() -> None:
    async def scenario(cluster: Cluster) -> None:
        modes = ["ReadWriteOncePod"]
        await cluster.client.create(PERSISTENT_VOLUMES, volume("disk", storageClassName="", accessModes=modes))
        await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, claim("data", storageClassName="", accessModes=modes))
        await cluster.client.create(PODS, pod("p", "data"))
        await cluster.wait(PODS, NS, "p", on(), timeout=60)
        await cluster.client.create(PODS, pod("q", "data"))
        text = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
        await cluster.wait(PODS, NS, "q", waits(text), timeout=60)
        await cluster.client.delete(PODS, "p", NS)
        await cluster.wait(PODS, NS, "q", on(), timeout=60)

    play(scenario)


def test_an_ephemeral_volume_s_claim_is_waited_for() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PERSISTENT_VOLUMES, volume("disk", storageClassName=""))
        template = {"spec": claim("x", storageClassName="")["spec"]}
        made = pod("p")
        made["spec"]["volumes"] = [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}]
        await cluster.client.create(PODS, made)
        await cluster.wait(PODS, NS, "p", on(), timeout=60)
        await cluster.wait(PERSISTENT_VOLUME_CLAIMS, NS, "p-v", bound_to("disk"), timeout=1)

    play(scenario)

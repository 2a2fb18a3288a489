"""Volumes are attached where pods need them and detached where nobody does, by VolumeAttachments and node statuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tiphys.client.resources import (
    CSI_DRIVERS,
    EVENTS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    SERVICE_ACCOUNTS,
    VOLUME_ATTACHMENTS,
)
from tiphys.client.types import MERGE_PATCH, Object, Resource
from tiphys.controllers.attach_volumes import MANAGED, Volume
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

DRIVER, HANDLE = "disks.example.com", "vol-1"
UNIQUE = f"kubernetes.io/csi/{DRIVER}^{HANDLE}"
CONTROLLER = "persistentvolume-attach-detach-controller"
ACCOUNTS = "serviceaccount-controller"
DISK = Volume(UNIQUE, "disk", DRIVER, HANDLE, "disk", shared=False)
Scenario = Callable[[Cluster], Awaitable[None]]


def run(scenario: Scenario, nodes: int = 2) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=nodes, controllers=[CONTROLLER, ACCOUNTS]) as cluster:
            for number in range(1, nodes + 1):
                await annotate(cluster, f"node-{number}")
            await scenario(cluster)

    clock.run(main())


async def annotate(cluster: Cluster, node: str) -> None:
    await patch(cluster, node, {"metadata": {"annotations": {MANAGED: "true"}}})


async def patch(cluster: Cluster, node: str, change: Any, subresource: str = "") -> None:
    await cluster.client.patch(NODES, node, change, type=MERGE_PATCH, subresource=subresource)


async def uses(cluster: Cluster, node: str, *names: str) -> None:
    await patch(cluster, node, {"status": {"volumesInUse": list(names)}}, "status")


async def not_ready(cluster: Cluster, node: str) -> None:
    await patch(cluster, node, {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, "status")


async def provide(cluster: Cluster, mode: str = "ReadWriteOnce", source: Any = None) -> None:
    """A claim that is bound to a volume of the driver."""
    csi = {"csi": {"driver": DRIVER, "volumeHandle": HANDLE}}
    room = {"storage": "1Gi"}
    claim = await cluster.client.create(
        PERSISTENT_VOLUME_CLAIMS,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": "default"},
            "spec": {"accessModes": [mode], "resources": {"requests": room}, "volumeName": "disk"},
        },
    )
    owner = {"namespace": "default", "name": "data", "uid": claim["metadata"]["uid"]}
    await cluster.client.create(
        PERSISTENT_VOLUMES,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "disk"},
            "spec": {"capacity": room, "accessModes": [mode], "claimRef": owner, **(source or csi)},
        },
    )
    bound = {**claim, "status": {"phase": "Bound", "accessModes": [mode], "capacity": room}}
    await cluster.client.update(PERSISTENT_VOLUME_CLAIMS, bound, subresource="status")


async def use(cluster: Cluster, name: str, node: str) -> None:
    """A pod on `node` that has the claim."""
    await cluster.wait(SERVICE_ACCOUNTS, "default", "default")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    }
    await cluster.client.create(PODS, pod)


async def end(cluster: Cluster, name: str) -> None:
    await cluster.client.delete(PODS, name, "default", grace_seconds=0)


async def says(cluster: Cluster, node: str, **status: Any) -> None:
    """What the driver's attacher writes when it has done its work, or could not."""
    name = DISK.attachment(node)
    held = await cluster.wait(VOLUME_ATTACHMENTS, "", name)
    attached = status.pop("attached", False)
    await cluster.client.update(
        VOLUME_ATTACHMENTS, {**held, "status": {"attached": attached, **status}}, subresource="status"
    )


async def attached(cluster: Cluster, node: str) -> None:
    """The volume comes to `node`."""
    await says(cluster, node, attached=True)
    await cluster.wait(NODES, "", node, lambda each: reported(each) == [UNIQUE])


def reported(node: Object) -> list[str]:
    return [each["name"] for each in node["status"].get("volumesAttached") or ()]


async def events(cluster: Cluster, pod: str) -> list[tuple[str, str, str]]:
    listing = await cluster.client.list(EVENTS, "default")
    return [
        (each["type"], each["reason"], each["message"])
        for each in listing.items
        if each["involvedObject"]["name"] == pod and each["source"]["component"] == "attachdetach-controller"
    ]


async def attachments(cluster: Cluster) -> list[str]:
    return [each["spec"]["nodeName"] for each in (await cluster.client.list(VOLUME_ATTACHMENTS)).items]


def test_a_volume_is_attached_for_a_pod_and_detached_after_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster)
        await use(cluster, "user", "node-1")
        made = await cluster.wait(VOLUME_ATTACHMENTS, "", DISK.attachment("node-1"))
        assert made["spec"] == {
            "attacher": DRIVER,
            "nodeName": "node-1",
            "source": {"persistentVolumeName": "disk"},
        }
        await cluster.clock.sleep(1)
        assert reported(await cluster.client.get(NODES, "node-1")) == []
        await attached(cluster, "node-1")
        node = await cluster.client.get(NODES, "node-1")
        assert node["status"]["volumesAttached"] == [{"name": UNIQUE, "devicePath": ""}]
        message = 'AttachVolume.Attach succeeded for volume "disk" '
        assert await events(cluster, "user") == [("Normal", "SuccessfulAttachVolume", message)]
        await end(cluster, "user")
        await cluster.wait_gone(VOLUME_ATTACHMENTS, "", DISK.attachment("node-1"), timeout=5)
        assert reported(await cluster.client.get(NODES, "node-1")) == []

    run(scenario)


def test_a_claim_that_is_bound_late_is_attached_then() -> None:
    async def scenario(cluster: Cluster) -> None:
        await use(cluster, "user", "node-1")
        await cluster.clock.sleep(5)
        assert await attachments(cluster) == []
        await provide(cluster)
        await attached(cluster, "node-1")

    run(scenario)


def test_a_volume_that_the_kubelet_uses_is_not_detached_before_it_lets_go() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster)
        await use(cluster, "user", "node-1")
        await attached(cluster, "node-1")
        await uses(cluster, "node-1", UNIQUE)
        await end(cluster, "user")
        await cluster.clock.sleep(3600)  # the node is ready: however long it takes
        assert await attachments(cluster) == ["node-1"]
        assert reported(await cluster.client.get(NODES, "node-1")) == [UNIQUE]
        await uses(cluster, "node-1")
        await cluster.wait_gone(VOLUME_ATTACHMENTS, "", DISK.attachment("node-1"), timeout=5)

    run(scenario)


def test_a_node_that_is_not_ready_loses_the_volume_after_six_minutes() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster)
        await use(cluster, "user", "node-1")
        await attached(cluster, "node-1")
        await uses(cluster, "node-1", UNIQUE)
        await not_ready(cluster, "node-1")
        await end(cluster, "user")
        await cluster.clock.sleep(359)
        assert await attachments(cluster) == ["node-1"]
        await cluster.clock.sleep(2)
        assert await attachments(cluster) == []

    run(scenario)


def test_a_node_out_of_service_loses_it_at_once() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster)
        await use(cluster, "user", "node-1")
        await attached(cluster, "node-1")
        await uses(cluster, "node-1", UNIQUE)
        await not_ready(cluster, "node-1")
        await end(cluster, "user")
        taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
        await patch(cluster, "node-1", {"spec": {"taints": [taint]}})
        await cluster.wait_gone(VOLUME_ATTACHMENTS, "", DISK.attachment("node-1"), timeout=5)

    run(scenario)


def test_the_second_node_waits_for_the_first_and_its_pod_is_told_why() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster)
        await use(cluster, "first", "node-1")
        await attached(cluster, "node-1")
        await use(cluster, "second", "node-2")
        await cluster.clock.sleep(60)
        assert await attachments(cluster) == ["node-1"]
        message = 'Multi-Attach error for volume "disk" Volume is already used by pod(s) first'
        assert await events(cluster, "second") == [("Warning", "FailedAttachVolume", message)]
        await end(cluster, "first")
        await attached(cluster, "node-2")
        assert await attachments(cluster) == ["node-2"]

    run(scenario)


def test_a_volume_that_may_be_shared_is_attached_to_both() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster, "ReadWriteMany")
        await use(cluster, "first", "node-1")
        await use(cluster, "second", "node-2")
        await attached(cluster, "node-1")
        await attached(cluster, "node-2")
        await end(cluster, "first")
        await cluster.wait_gone(VOLUME_ATTACHMENTS, "", DISK.attachment("node-1"))
        assert await attachments(cluster) == ["node-2"]

    run(scenario)


def test_an_error_of_the_driver_is_told_and_tried_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster)
        await use(cluster, "user", "node-1")
        await says(cluster, "node-1", attachError={"message": "no such disk"})
        await cluster.clock.sleep(5)
        message = 'AttachVolume.Attach failed for volume "disk" : no such disk'
        assert await events(cluster, "user") == [("Warning", "FailedAttachVolume", message)]
        assert reported(await cluster.client.get(NODES, "node-1")) == []
        await attached(cluster, "node-1")

    run(scenario)


def test_a_driver_that_never_answers_is_told_of_after_two_minutes() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster)
        await use(cluster, "user", "node-1")
        await cluster.clock.sleep(125)
        message = (
            'AttachVolume.Attach failed for volume "disk" : timed out waiting for external-attacher of '
            f"{DRIVER} CSI driver to attach volume {HANDLE}"
        )
        assert await events(cluster, "user") == [("Warning", "FailedAttachVolume", message)]
        await end(cluster, "user")  # nobody knows whether it was attached: it is detached
        await uses(cluster, "node-1", "another")
        await cluster.wait_gone(VOLUME_ATTACHMENTS, "", DISK.attachment("node-1"))

    run(scenario)


def test_an_attachment_that_the_server_refuses_is_told_and_tried_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        policy = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "none"},
            "spec": {
                "matchConstraints": {
                    "resourceRules": [
                        {
                            "apiGroups": ["storage.k8s.io"],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE"],
                            "resources": ["volumeattachments"],
                        }
                    ]
                },
                "validations": [{"expression": "false", "message": "not today"}],
            },
        }
        group = ("admissionregistration.k8s.io", "v1")
        await cluster.client.create(Resource(*group, "validatingadmissionpolicies", namespaced=False), policy)
        binding = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "none"},
            "spec": {"policyName": "none", "validationActions": ["Deny"]},
        }
        bindings = Resource(*group, "validatingadmissionpolicybindings", namespaced=False)
        await cluster.client.create(bindings, binding)
        await cluster.clock.sleep(1)
        await provide(cluster)
        await use(cluster, "user", "node-1")
        await cluster.clock.sleep(5)
        (event,) = await events(cluster, "user")
        told = 'AttachVolume.Attach failed for volume "disk" : kubernetes.io/csi: attacher.Attach failed: volumeattach'
        assert event[2].startswith(told)
        await cluster.client.delete(bindings, "none")
        await attached(cluster, "node-1")

    run(scenario)


def test_detaching_that_fails_is_tried_again_and_never_reported_as_attached() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster)
        await use(cluster, "user", "node-1")
        await attached(cluster, "node-1")
        held = await cluster.client.get(VOLUME_ATTACHMENTS, DISK.attachment("node-1"))
        marked = {**held, "metadata": {**held["metadata"], "finalizers": ["external-attacher/disks"]}}
        await cluster.client.update(VOLUME_ATTACHMENTS, marked)
        await end(cluster, "user")
        await cluster.wait(VOLUME_ATTACHMENTS, "", DISK.attachment("node-1"), lambda it: _deleting(it))
        await says(cluster, "node-1", attached=True, detachError={"message": "busy"})
        await cluster.clock.sleep(300)
        assert reported(await cluster.client.get(NODES, "node-1")) == []
        held = await cluster.client.get(VOLUME_ATTACHMENTS, DISK.attachment("node-1"))
        await cluster.client.update(VOLUME_ATTACHMENTS, {**held, "metadata": {**held["metadata"], "finalizers": []}})
        await use(cluster, "next", "node-1")
        await attached(cluster, "node-1")

    run(scenario)


def _deleting(attachment: Object) -> bool:
    return bool(attachment["metadata"].get("deletionTimestamp"))


@pytest.mark.parametrize("source", [{"hostPath": {"path": "/d"}}, {"nfs": {"server": "s", "path": "/"}}])
def test_volumes_that_are_not_attached_need_nothing(source: Any) -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster, source=source)
        await use(cluster, "user", "node-1")
        await cluster.clock.sleep(60)
        assert await attachments(cluster) == []
        assert reported(await cluster.client.get(NODES, "node-1")) == []

    run(scenario)


def test_a_driver_without_attaching_has_no_attachments() -> None:
    driver = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": {"name": DRIVER},
        "spec": {"attachRequired": False},
    }

    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(CSI_DRIVERS, driver)
        await provide(cluster)
        await use(cluster, "user", "node-1")
        await cluster.clock.sleep(60)
        assert await attachments(cluster) == []
        await cluster.client.delete(CSI_DRIVERS, DRIVER)
        await attached(cluster, "node-1")

    run(scenario)


def test_a_node_whose_kubelet_attaches_itself_is_left_alone() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster)
        await cluster.nodes.add("own")
        await use(cluster, "user", "own")
        await cluster.clock.sleep(60)
        assert await attachments(cluster) == []
        await annotate(cluster, "own")
        await attached(cluster, "own")

    run(scenario)


def test_iscsi_volumes_are_reported_without_an_attachment() -> None:
    source = {"iscsi": {"targetPortal": "10.0.0.1:3260", "iqn": "iqn.2001-04.com.example:disk", "lun": 2}}
    unique = "kubernetes.io/iscsi/10.0.0.1:3260:iqn.2001-04.com.example:disk:2"

    async def scenario(cluster: Cluster) -> None:
        await provide(cluster, source=source)
        await use(cluster, "user", "node-1")
        await cluster.wait(NODES, "", "node-1", lambda node: reported(node) == [unique])
        assert await attachments(cluster) == []
        await end(cluster, "user")
        await cluster.wait(NODES, "", "node-1", lambda node: reported(node) == [])

    run(scenario)


def test_a_pod_that_ended_gives_the_volume_back() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster)
        await use(cluster, "user", "node-1")
        await attached(cluster, "node-1")
        await cluster.nodes.finish(await cluster.client.get(PODS, "user", "default"))
        await cluster.wait_gone(VOLUME_ATTACHMENTS, "", DISK.attachment("node-1"), timeout=5)

    run(scenario)


def test_a_lost_attachment_is_made_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster)
        await use(cluster, "user", "node-1")
        await attached(cluster, "node-1")
        await cluster.client.delete(VOLUME_ATTACHMENTS, DISK.attachment("node-1"))
        await attached(cluster, "node-1")

    run(scenario)


def test_a_node_that_registers_anew_is_told_again_what_is_attached() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster)
        await use(cluster, "user", "node-1")
        await attached(cluster, "node-1")
        await cluster.nodes.remove("node-1")
        await cluster.nodes.add("node-1")
        await annotate(cluster, "node-1")
        await cluster.wait(NODES, "", "node-1", lambda node: reported(node) == [UNIQUE])

    run(scenario)


def test_volumes_of_a_node_that_is_gone_come_free() -> None:
    async def scenario(cluster: Cluster) -> None:
        await provide(cluster)
        await use(cluster, "user", "node-1")
        await attached(cluster, "node-1")
        await cluster.nodes.remove("node-1")
        await end(cluster, "user")
        await cluster.wait_gone(VOLUME_ATTACHMENTS, "", DISK.attachment("node-1"), timeout=5)

    run(scenario)


def test_after_a_restart_what_was_attached_is_known_and_nothing_is_written() -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with Cluster(clock, nodes=2, controllers=ACCOUNTS) as cluster:
            await annotate(cluster, "node-1")
            await annotate(cluster, "node-2")
            await provide(cluster)
            async with cluster.managing(CONTROLLER):
                await use(cluster, "user", "node-1")
                await attached(cluster, "node-1")
            before = (await cluster.client.list(VOLUME_ATTACHMENTS)).resource_version
            node = await cluster.client.get(NODES, "node-1")
            async with cluster.managing(CONTROLLER):
                await clock.sleep(2)
                attachment = await cluster.client.get(VOLUME_ATTACHMENTS, DISK.attachment("node-1"))
                assert int(attachment["metadata"]["resourceVersion"]) <= int(before)
                assert await cluster.client.get(NODES, "node-1") == node
                await end(cluster, "user")
                await cluster.wait_gone(VOLUME_ATTACHMENTS, "", DISK.attachment("node-1"), timeout=5)

    clock.run(scenario())


def test_after_a_restart_what_nobody_needs_any_more_is_detached() -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with Cluster(clock, nodes=2, controllers=ACCOUNTS) as cluster:
            await annotate(cluster, "node-1")
            await provide(cluster)
            async with cluster.managing(CONTROLLER):
                await use(cluster, "user", "node-1")
                await attached(cluster, "node-1")
            await end(cluster, "user")
            async with cluster.managing(CONTROLLER):
                await cluster.wait_gone(VOLUME_ATTACHMENTS, "", DISK.attachment("node-1"), timeout=5)
            assert reported(await cluster.client.get(NODES, "node-1")) == []

    clock.run(scenario())

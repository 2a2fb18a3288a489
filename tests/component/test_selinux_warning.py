"""Pods that cannot share a volume for their SELinux labels are told, when the controller is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tiphys.client.resources import (
    CSI_DRIVERS,
    EVENTS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    SERVICE_ACCOUNTS,
)
from tiphys.controllers.selinux_labels import Conflict, conflicting
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

Scenario = Callable[[Cluster], Awaitable[None]]
ONLY_ONE = "If both pods land on the same node, only one of them may access the volume."


def run(scenario: Scenario, mounts: bool = True) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, controllers="selinux-warning-controller,serviceaccount-controller") as cluster:
            await cluster.wait(SERVICE_ACCOUNTS, "default", "default")
            await provide(cluster, mounts)
            await scenario(cluster)

    clock.run(main())


async def provide(cluster: Cluster, mounts: bool) -> None:
    driver = {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "d.example.com"}}
    await cluster.client.create(CSI_DRIVERS, {**driver, "spec": {"seLinuxMount": mounts}})
    room, modes = {"storage": "1Gi"}, ["ReadWriteMany"]
    body = {"accessModes": modes, "resources": {"requests": room}, "volumeName": "disk", "storageClassName": ""}
    meta = {"name": "data", "namespace": "default"}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": body}
    made = await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, claim)
    source = {
        "capacity": room,
        "accessModes": modes,
        "csi": {"driver": "d.example.com", "volumeHandle": "h"},
        "claimRef": {"namespace": "default", "name": "data", "uid": made["metadata"]["uid"]},
    }
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"}, "spec": source}
    await cluster.client.create(PERSISTENT_VOLUMES, volume)
    bound = {**made, "status": {"phase": "Bound", "accessModes": modes, "capacity": room}}
    await cluster.client.update(PERSISTENT_VOLUME_CLAIMS, bound, subresource="status")


async def use(cluster: Cluster, name: str, level: str, *others: str, policy: str = "") -> None:
    def container(number: int, level: str) -> dict[str, Any]:
        context = {"securityContext": {"seLinuxOptions": {"level": level}}} if level else {}
        return {"name": f"c{number}", "image": "i", "volumeMounts": [{"name": "d", "mountPath": "/d"}], **context}

    spec = {
        "containers": [container(number, each) for number, each in enumerate((level, *others))],
        "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}],
        **({"securityContext": {"seLinuxChangePolicy": policy}} if policy else {}),
    }
    meta = {"name": name, "namespace": "default"}
    await cluster.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    await cluster.clock.sleep(1)


async def told(cluster: Cluster) -> set[tuple[str, str, str, str]]:
    return {
        (each["involvedObject"]["name"], each["type"], each["reason"], each["message"])
        for each in (await cluster.client.list(EVENTS, "default")).items
        if each["source"]["component"] == "selinux_warning"
    }


def test_pods_with_different_labels_are_both_told() -> None:
    async def scenario(cluster: Cluster) -> None:
        await use(cluster, "one", "s0:c1,c2")
        await use(cluster, "same", "s0:c1,c2")
        assert await told(cluster) == set()
        await cluster.client.delete(PODS, "same", "default", grace_seconds=0)
        await use(cluster, "two", "s0:c3,c4")

        def message(mine: str, pod: str, theirs: str) -> str:
            using = f'that uses the same volume as this pod with SELinuxLabel "{theirs}".'
            return f'SELinuxLabel "{mine}" conflicts with pod {pod} {using} {ONLY_ONE}'

        assert await told(cluster) == {
            ("one", "Normal", "SELinuxLabelConflict", message(":::s0:c1,c2", "two", ":::s0:c3,c4")),
            ("two", "Normal", "SELinuxLabelConflict", message(":::s0:c3,c4", "one", ":::s0:c1,c2")),
        }

    run(scenario)


def test_pods_with_different_policies_are_told() -> None:
    async def scenario(cluster: Cluster) -> None:
        await use(cluster, "one", "s0:c1,c2")
        await use(cluster, "two", "s0:c1,c2", policy="Recursive")
        reasons = {(name, reason) for name, _, reason, _ in await told(cluster)}
        assert reasons == {
            (name, reason)
            for name in ("one", "two")
            for reason in ("SELinuxChangePolicyConflict", "SELinuxLabelConflict")
        }

    run(scenario)


def test_a_driver_that_cannot_mount_with_labels_has_no_conflicts_until_it_can() -> None:
    async def scenario(cluster: Cluster) -> None:
        await use(cluster, "one", "s0:c1,c2")
        await use(cluster, "two", "s0:c3,c4")
        assert await told(cluster) == set()
        driver = await cluster.client.get(CSI_DRIVERS, "d.example.com")
        await cluster.client.update(CSI_DRIVERS, {**driver, "spec": {**driver["spec"], "seLinuxMount": True}})
        await cluster.clock.sleep(1)
        assert {reason for _, _, reason, _ in await told(cluster)} >= {"SELinuxLabelConflict"}

    run(scenario, mounts=False)


def test_containers_that_disagree_are_told() -> None:
    async def scenario(cluster: Cluster) -> None:
        await use(cluster, "one", "s0:c1,c2", "s0:c3,c4")
        pod = await cluster.client.get(PODS, "one", "default")
        assert await told(cluster) == {
            (
                "one",
                "Warning",
                "MultipleSELinuxLabels",
                f'Volume "{volume["name"]}" is mounted twice with different SELinux labels inside this pod',
            )
            for volume in pod["spec"]["volumes"]  # that with its token, too
        }

    run(scenario)


def test_a_pod_that_ended_is_in_nobodys_way() -> None:
    async def scenario(cluster: Cluster) -> None:
        await use(cluster, "one", "s0:c1,c2")
        await cluster.nodes.finish(await cluster.client.get(PODS, "one", "default"))
        await use(cluster, "two", "s0:c3,c4")
        assert await told(cluster) == set()

    run(scenario)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("", "", False),
        ("u:r:t:s0:c1,c2", "u:r:t:s0:c1,c2", False),
        ("u:r:t:s0:c1,c2", ":::s0:c1,c2", False),
        ("u:r:t:s0:c1,c2", ":::s0:c98,c99", True),
        (":::s0:c1,c2", "", True),
        ("u:r:t:s0", "u:r:other:s0", True),
        ("u:r:t:", "", False),
    ],
)
def test_which_labels_conflict(one: str, other: str, expected: bool) -> None:
    assert conflicting(one, other) is conflicting(other, one) is expected


def test_pods_of_other_namespaces_are_not_named() -> None:
    told = Conflict("SELinuxLabel", "SELinuxLabelConflict", "a/one", "x", "b/two", "y").message
    using = "that uses the same volume as this pod with a different SELinuxLabel."
    assert told == f'SELinuxLabel"x" conflicts with another pod {using} {ONLY_ONE}'

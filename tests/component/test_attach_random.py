"""Attaching under random treatment: pods come, move and go, nodes fall silent, drivers fail, managers die.

Kubelets and drivers keep their part of the protocol: a kubelet says that it uses a volume before it mounts it, mounts
what the node's status calls attached, and lets go some time after the pod; a driver attaches and detaches late, or
fails first. What must hold at every moment: no volume is taken from a node that is ready and has it mounted. In the end
exactly what pods need is attached.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tiphys.base.errors import ApiError, NotFound
from tiphys.client.resources import (
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    SERVICE_ACCOUNTS,
    VOLUME_ATTACHMENTS,
)
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.controllers.attach_volumes import MANAGED
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

CONTROLLER = "persistentvolume-attach-detach-controller"
DRIVER = "disks.example.com"
NODE_NAMES = ("node-1", "node-2", "node-3")
CLAIMS = {"one": "ReadWriteOnce", "two": "ReadWriteOnce", "many": "ReadWriteMany"}
FINALIZER = "external-attacher/disks-example-com"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
STEPS = 200


def unique(claim: str) -> str:
    return f"kubernetes.io/csi/{DRIVER}^{claim}"


class Kubelets:
    """What kubelets do about volumes, some time after they could."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self._cluster, self._rng = cluster, rng
        self.silent: set[str] = set()
        self.mounted: dict[str, set[str]] = {name: set() for name in NODE_NAMES}

    async def run(self) -> None:
        while True:
            await self._cluster.clock.sleep(self._rng.uniform(0.2, 3.0))
            for name in NODE_NAMES:
                if name not in self.silent:
                    await self._look(name)

    async def _look(self, name: str) -> None:
        node = await self._cluster.client.get(NODES, name)
        wanted = {unique(claim) for claim in await claims_on(self._cluster, name)}
        status = node.get("status") or {}
        attached = {each["name"] for each in status.get("volumesAttached") or ()}
        said = set(status.get("volumesInUse") or ())
        self.mounted[name] = {each for each in self.mounted[name] if each in wanted} | (wanted & attached & said)
        if said != wanted | self.mounted[name]:
            in_use = sorted(wanted | self.mounted[name])
            await patch_status(self._cluster, name, {"volumesInUse": in_use})


class Driver:
    """An external attacher: late, and sometimes it fails first."""

    def __init__(self, cluster: Cluster, rng: random.Random, kubelets: Kubelets) -> None:
        self._cluster, self._rng, self._kubelets = cluster, rng, kubelets
        self.well = False
        self.undone: set[str] = set()
        """Attachments that somebody deleted by hand, at his own risk."""

    async def run(self) -> None:
        while True:
            await self._cluster.clock.sleep(self._rng.uniform(0.1, 4.0))
            for each in (await self._cluster.client.list(VOLUME_ATTACHMENTS)).items:
                if self.well or self._rng.random() < 0.6:
                    await self._work(each)

    async def _work(self, attachment: Object) -> None:
        try:
            if attachment["metadata"].get("deletionTimestamp"):
                await self._detach(attachment)
            elif not (attachment.get("status") or {}).get("attached"):
                await self._attach(attachment)
        except ApiError:
            return  # it has changed: next time

    async def _attach(self, attachment: Object) -> None:
        if not self.well and self._rng.random() < 0.3:
            status: dict[str, Any] = {"attached": False, "attachError": {"message": "not now"}}
        else:
            status = {"attached": True}
        meta = {**attachment["metadata"], "finalizers": [FINALIZER]}
        held = await self._cluster.client.update(VOLUME_ATTACHMENTS, {**attachment, "metadata": meta})
        await self._cluster.client.update(VOLUME_ATTACHMENTS, {**held, "status": status}, subresource="status")

    async def _detach(self, attachment: Object) -> None:
        if not self.well and self._rng.random() < 0.2:
            status = {**(attachment.get("status") or {"attached": False}), "detachError": {"message": "busy"}}
            await self._cluster.client.update(
                VOLUME_ATTACHMENTS, {**attachment, "status": status}, subresource="status"
            )
            return
        node, volume = attachment["spec"]["nodeName"], attachment["spec"]["source"]["persistentVolumeName"]
        if attachment["metadata"]["uid"] not in self.undone:
            await self._check(node, volume)
        meta = {**attachment["metadata"], "finalizers": []}
        await self._cluster.client.update(VOLUME_ATTACHMENTS, {**attachment, "metadata": meta})

    async def _check(self, name: str, claim: str) -> None:
        """Nobody may ask for a volume to be taken from a healthy node that has it mounted."""
        node = await self._cluster.client.get(NODES, name)
        taints = [each["key"] for each in (node.get("spec") or {}).get("taints") or ()]
        if name not in self._kubelets.silent and OUT_OF_SERVICE not in taints:
            assert unique(claim) not in self._kubelets.mounted[name], f"{claim} is taken from {name}, which uses it"


async def claims_on(cluster: Cluster, node: str) -> set[str]:
    pods = (await cluster.client.list(PODS, "default")).items
    return {
        pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
        for pod in pods
        if pod["spec"].get("nodeName") == node and pod["status"].get("phase") not in ("Succeeded", "Failed")
    }


async def patch_status(cluster: Cluster, node: str, status: Any) -> None:
    await cluster.client.patch(NODES, node, {"status": status}, type=MERGE_PATCH, subresource="status")


class World:
    """What happens to the cluster."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.cluster, self.rng = cluster, rng
        self.kubelets = Kubelets(cluster, rng)
        self.driver = Driver(cluster, rng, self.kubelets)
        self._stack = AsyncExitStack()
        self._number = 0

    async def prepare(self) -> None:
        await self.cluster.wait(SERVICE_ACCOUNTS, "default", "default")
        for name in NODE_NAMES:
            annotation = {"metadata": {"annotations": {MANAGED: "true"}}}
            await self.cluster.client.patch(NODES, name, annotation, type=MERGE_PATCH)
        for claim, mode in CLAIMS.items():
            await self._provide(claim, mode)
        await self.start_manager()

    async def _provide(self, name: str, mode: str) -> None:
        room = {"storage": "1Gi"}
        spec = {"accessModes": [mode], "resources": {"requests": room}, "volumeName": name, "storageClassName": ""}
        meta = {"name": name, "namespace": "default"}
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
        made = await self.cluster.client.create(PERSISTENT_VOLUME_CLAIMS, claim)
        source = {
            "capacity": room,
            "accessModes": [mode],
            "csi": {"driver": DRIVER, "volumeHandle": name},
            "claimRef": {"namespace": "default", "name": name, "uid": made["metadata"]["uid"]},
        }
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": source}
        await self.cluster.client.create(PERSISTENT_VOLUMES, volume)
        bound = {**made, "status": {"phase": "Bound", "accessModes": [mode], "capacity": room}}
        await self.cluster.client.update(PERSISTENT_VOLUME_CLAIMS, bound, subresource="status")

    async def start_manager(self) -> None:
        await self._stack.enter_async_context(self.cluster.managing(CONTROLLER))

    async def stop_manager(self) -> None:
        await self._stack.aclose()

    async def step(self) -> None:
        actions = [self.add_pod] * 5 + [self.remove_pod] * 5 + [self.finish_pod, self.restart]
        actions += [self.silence, self.heal, self.heal, self.taint, self.undo]
        try:
            await self.rng.choice(actions)()
        except NotFound:
            return

    async def add_pod(self) -> None:
        self._number += 1
        claim, node = self.rng.choice(list(CLAIMS)), self.rng.choice(NODE_NAMES)
        spec = {
            "nodeName": node,
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": claim}}],
        }
        meta = {"name": f"pod-{self._number}", "namespace": "default"}
        await self.cluster.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    async def _any_pod(self) -> Object:
        pods = (await self.cluster.client.list(PODS, "default")).items
        if not pods:
            raise NotFound("no pods")
        return self.rng.choice(pods)

    async def remove_pod(self) -> None:
        await self.cluster.client.delete(PODS, (await self._any_pod())["metadata"]["name"], "default", grace_seconds=0)

    async def finish_pod(self) -> None:
        await self.cluster.nodes.finish(await self._any_pod())

    async def restart(self) -> None:
        await self.stop_manager()
        await self.cluster.clock.sleep(self.rng.uniform(0, 30))
        await self.start_manager()

    async def silence(self) -> None:
        name = self.rng.choice(NODE_NAMES)
        self.kubelets.silent.add(name)
        await patch_status(self.cluster, name, {"conditions": [{"type": "Ready", "status": "Unknown"}]})

    async def heal(self) -> None:
        for name in sorted(self.kubelets.silent):
            self.kubelets.silent.discard(name)
            self.kubelets.mounted[name] = set()  # it restarted
            await patch_status(self.cluster, name, {"conditions": [{"type": "Ready", "status": "True"}]})
            return

    async def taint(self) -> None:
        if self.kubelets.silent:
            name = min(self.kubelets.silent)
            taint = {"key": OUT_OF_SERVICE, "effect": "NoExecute"}
            await self.cluster.client.patch(NODES, name, {"spec": {"taints": [taint]}}, type=MERGE_PATCH)

    async def undo(self) -> None:
        """Somebody deletes a VolumeAttachment by hand, of a volume that nobody has mounted."""
        for each in (await self.cluster.client.list(VOLUME_ATTACHMENTS)).items:
            claim = each["spec"]["source"]["persistentVolumeName"]
            if unique(claim) not in self.kubelets.mounted[each["spec"]["nodeName"]]:
                self.driver.undone.add(each["metadata"]["uid"])
                await self.cluster.client.delete(VOLUME_ATTACHMENTS, each["metadata"]["name"])
                return

    async def calm(self) -> None:
        """All is well, and time passes."""
        while self.kubelets.silent:
            await self.heal()
        for name in NODE_NAMES:
            await self.cluster.client.patch(NODES, name, {"spec": {"taints": None}}, type=MERGE_PATCH)
        self.driver.well = True
        await self.keep_one_pod_for_each_exclusive_volume()
        await self.cluster.clock.sleep(600)

    async def keep_one_pod_for_each_exclusive_volume(self) -> None:
        nodes: dict[str, str] = {}
        for pod in (await self.cluster.client.list(PODS, "default")).items:
            claim = pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
            ended = pod["status"].get("phase") in ("Succeeded", "Failed")
            if CLAIMS[claim] == "ReadWriteOnce" and not ended:
                node = pod["spec"]["nodeName"]
                if nodes.setdefault(claim, node) != node:
                    await self.cluster.client.delete(PODS, pod["metadata"]["name"], "default", grace_seconds=0)

    async def check(self) -> None:
        attachments = (await self.cluster.client.list(VOLUME_ATTACHMENTS)).items
        present = {(each["spec"]["nodeName"], each["spec"]["source"]["persistentVolumeName"]) for each in attachments}
        wanted = {(name, claim) for name in NODE_NAMES for claim in await claims_on(self.cluster, name)}
        assert present == wanted
        assert all((each.get("status") or {}).get("attached") for each in attachments)
        for name in NODE_NAMES:
            node = await self.cluster.client.get(NODES, name)
            reported = {each["name"] for each in node["status"].get("volumesAttached") or ()}
            assert reported == {unique(claim) for there, claim in wanted if there == name}
            assert self.kubelets.mounted[name] == reported


@pytest.mark.parametrize("seed", range(5))
def test_what_pods_need_is_attached_in_the_end(seed: int) -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with Cluster(clock, nodes=len(NODE_NAMES), controllers="serviceaccount-controller") as cluster:
            world = World(cluster, random.Random(seed))
            await world.prepare()
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(world.kubelets.run()), tasks.create_task(world.driver.run())]
                for _ in range(STEPS):
                    await world.step()
                    await clock.sleep(world.rng.choice((0, 0.1, 1, 5, 30)))
                await world.calm()
                await world.check()
                for task in running:
                    task.cancel()
            await world.stop_manager()

    clock.run(scenario())

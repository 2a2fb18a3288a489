"""Nodes without containers: they register, renew their leases, take pods and say that these run.

A pod is bound to the node that it asks for (DaemonSets do), else to the one with the fewest pods, unless a scheduler
is there to do that. It becomes Running and Ready at once; `finish` ends it as a container's exit would; a pod that is
deleted goes when its containers would have stopped. Schedulers and kubelets have tests of their own; this is for
everything above them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tiphys.base.clock import Clock, rfc3339, rfc3339_micro
from tiphys.base.errors import ApiError, Conflict, NotFound
from tiphys.client.informer import InformerFactory, index_by_field, key_of
from tiphys.client.reconcile import Result, run_workers
from tiphys.client.resources import LEASES, NODES, PODS
from tiphys.client.types import Client, Object
from tiphys.client.workqueue import WorkQueue

_RENEW = 10.0
LEASE_NAMESPACE = "kube-node-lease"

Outcome = Callable[[Object], int | None]
"""What becomes of a pod that runs: the exit code of its containers, or None to let them run."""


class FakeNodes:
    """All nodes of a test; `outcome` may be replaced at any time."""

    def __init__(self, client: Client, clock: Clock, *, bind: bool = True, workers: int = 1) -> None:
        """`workers` pods are attended to at once; nodes that bind need to look at one after the other."""
        self._bind_pods = bind
        self._workers = workers
        self._client = client
        self._clock = clock
        self._queue: WorkQueue[str] = WorkQueue()
        self._silent: set[str] = set()
        self._names: list[str] = []
        self._addresses = 0
        self.ready = True
        """Whether pods become ready when they run."""
        self.outcome: Outcome = lambda pod: None

    async def add(
        self,
        name: str,
        *,
        labels: dict[str, str] | None = None,
        taints: list[Any] | None = None,
        room: dict[str, str] | None = None,
    ) -> None:
        """Register a node that is ready; `room` is what it has for pods."""
        meta = {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **(labels or {})}}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {"taints": taints or []}}
        await self._client.create(NODES, node)
        status = {**self._status(), **({"capacity": room, "allocatable": room} if room else {})}
        await self._client.patch(NODES, name, {"status": status}, subresource="status")
        self._names.append(name)
        await self._renew(name)

    async def remove(self, name: str) -> None:
        """Delete a node; its pods are left to the control plane."""
        self._names.remove(name)
        await self._client.delete(NODES, name)

    def silence(self, name: str) -> None:
        """The node stops speaking: no lease, no status, no pods."""
        self._silent.add(name)

    async def revive(self, name: str) -> None:
        """It speaks again."""
        self._silent.discard(name)
        node = await self._client.get(NODES, name)
        await self._client.update(NODES, {**node, "status": self._status()}, subresource="status")
        await self._renew(name)

    async def finish(self, pod: Object, code: int = 0) -> None:
        """End a pod's containers with an exit code."""
        await self._put_status(pod, self._finished(pod, code))

    async def run(self) -> None:
        """Keep leases renewed and pods running until cancelled."""
        async with InformerFactory(self._client, self._clock) as informers:
            self._pods = informers.get(PODS)
            self._pods.add_index("node", index_by_field("spec", "nodeName"))
            self._pods.subscribe(self._changed)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(run_workers("fake nodes", self._queue, self._reconcile, self._workers))
                while True:
                    await self._clock.sleep(_RENEW)
                    for name in self._names:
                        if name not in self._silent:
                            await self._renew(name)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._queue.add(key_of(new))

    async def _reconcile(self, key: str) -> Result | None:
        pod = self._pods.by_key(key)
        if pod is None:
            return None
        node = (pod.get("spec") or {}).get("nodeName") or ""
        ours = node in self._names if node else self._bind_pods
        if node in self._silent or not ours:
            return None
        if pod["metadata"].get("deletionTimestamp"):
            await self._stop(pod)
        elif not node:
            await self._bind(pod)
        elif (pod.get("status") or {}).get("phase") == "Pending":
            await self._put_status(pod, self._running())
        elif (pod.get("status") or {}).get("phase") == "Running":
            code = self.outcome(pod)
            if code is not None:
                await self.finish(pod, code)
        return None

    async def _stop(self, pod: Object) -> None:
        """Say that the containers ended, then let the pod go."""
        meta = pod["metadata"]
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed") and meta.get("finalizers"):
            await self._put_status(pod, self._finished(pod, 143))
        try:
            await self._client.delete(PODS, meta["name"], meta["namespace"], grace_seconds=0, uid=meta["uid"])
        except (NotFound, Conflict):
            return

    async def _bind(self, pod: Object) -> None:
        node = _wanted_node(pod) or self._emptiest()
        if not node or node not in self._names:
            return
        meta = pod["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        await self._client.create(PODS, binding, meta["namespace"], name=meta["name"], subresource="binding")

    def _emptiest(self) -> str:
        awake = (name for name in self._names if name not in self._silent)
        return min(awake, key=lambda name: self._pods.count("node", name), default="")

    def _running(self) -> dict[str, Any]:
        now = rfc3339(self._clock.time())
        value = "True" if self.ready else "False"
        names = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
        conditions = [
            {"type": name, "status": value if "Ready" in name else "True", "lastTransitionTime": now} for name in names
        ]
        self._addresses += 1
        address = f"10.{self._addresses >> 16}.{self._addresses >> 8 & 255}.{self._addresses & 255}"
        where = {"podIP": address, "podIPs": [{"ip": address}]}
        return {"phase": "Running", "startTime": now, "conditions": conditions, **where}

    def _finished(self, pod: Object, code: int) -> dict[str, Any]:
        now = rfc3339(self._clock.time())
        state = {"terminated": {"exitCode": code, "finishedAt": now, "reason": "Error" if code else "Completed"}}
        containers = [
            {
                "name": each["name"],
                "state": state,
                "ready": False,
                "restartCount": 0,
                "image": each.get("image", ""),
                "imageID": "",
            }
            for each in pod["spec"]["containers"]
        ]
        kept = [each for each in (pod.get("status") or {}).get("conditions") or () if each["type"] != "Ready"]
        conditions = [*kept, {"type": "Ready", "status": "False", "lastTransitionTime": now}]
        phase = "Failed" if code else "Succeeded"
        return {**(pod.get("status") or {}), "phase": phase, "conditions": conditions, "containerStatuses": containers}

    async def _put_status(self, pod: Object, status: dict[str, Any]) -> None:
        try:
            await self._client.update(PODS, {**pod, "status": status}, subresource="status")
        except (NotFound, Conflict):
            return

    def _status(self) -> dict[str, Any]:
        now = rfc3339(self._clock.time())
        types = {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}
        conditions = [
            {"type": type, "status": value, "lastHeartbeatTime": now, "lastTransitionTime": now}
            for type, value in types.items()
        ]
        room = {"cpu": "8", "memory": "16Gi", "pods": "110"}
        return {"conditions": conditions, "capacity": room, "allocatable": room}

    async def _renew(self, name: str) -> None:
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": rfc3339_micro(self._clock.time())}
        meta = {"name": name, "namespace": LEASE_NAMESPACE}
        try:
            held = await self._client.get(LEASES, name, LEASE_NAMESPACE)
            await self._client.update(LEASES, {**held, "spec": spec})
        except Conflict:
            return  # it was renewed just now
        except NotFound:
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
            await self._create_lease(lease)

    async def _create_lease(self, lease: dict[str, Any]) -> None:
        try:
            await self._client.create(LEASES, lease)
        except ApiError:  # kube-node-lease is still to be made; the next renewal tries again
            return


def _wanted_node(pod: Object) -> str:
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field["key"] == "metadata.name":
                return str(field["values"][0])
    return ""

"""Nodes that take their time: pods start late, end by themselves, restart, fail; nodes fall silent and come back.

Unlike `testing.nodes.FakeNodes` they behave at random, by a generator of their own, and a pod that a silent node was
told to stop is stopped when it speaks again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Any

from component.random.rules_sets import node_of
from tiphys.base.clock import Clock, rfc3339, rfc3339_micro
from tiphys.base.errors import AlreadyExists, ApiError, Conflict, NotFound
from tiphys.client.informer import InformerFactory, key_of
from tiphys.client.reconcile import Result, run_workers
from tiphys.client.resources import LEASES, NODES, PODS
from tiphys.client.types import Client, Object
from tiphys.client.workqueue import WorkQueue
from tiphys.controllers import pods as podlib
from tiphys.controllers.objects import deleting, name, namespace, spec, status, uid
from tiphys.testing.nodes import LEASE_NAMESPACE

_RENEW = 20.0
_ROOM = {"cpu": "8", "memory": "16Gi", "pods": "110"}
_CODES = (0, 0, 0, 0, 1, 3, 42)
ZONE = "topology.kubernetes.io/zone"


class Kubelets:
    """All nodes of a world. `bind`: whether pods without a node get one here, as no scheduler runs."""

    def __init__(self, client: Client, clock: Clock, random: Random, *, bind: bool) -> None:
        self._client, self._clock, self._random, self._binds = client, clock, random, bind
        self._queue: WorkQueue[str] = WorkQueue()
        self._ends: dict[str, float] = {}
        self._addresses = 0
        self.names: list[str] = []
        self.silent: set[str] = set()
        self.calm = True
        """Whether everything goes well and fast."""

    async def run(self) -> None:
        """Keep leases renewed and pods going until cancelled."""
        async with InformerFactory(self._client, self._clock) as informers:
            self._pods = informers.get(PODS)
            self._nodes = informers.get(NODES)
            self._pods.subscribe(self._changed)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(run_workers("kubelets", self._queue, self._reconcile, 1))
                while True:
                    await self._clock.sleep(_RENEW)
                    for each in [each for each in self.names if each not in self.silent]:
                        await self._renew(each)
                        await self._correct(each)

    async def add(self, node: str) -> None:
        """Register a node."""
        zone = f"zone-{node[-1]}"
        meta = {"name": node, "labels": {"kubernetes.io/hostname": node, "kubernetes.io/os": "linux", ZONE: zone}}
        with suppress(AlreadyExists):
            await self._client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}})
        self.names.append(node)
        await self.revive(node)

    async def remove(self, node: str) -> None:
        """Delete a node as a cloud does: its pods are left to the control plane."""
        self.names.remove(node)
        self.silent.discard(node)
        await self._client.delete(NODES, node)

    async def revive(self, node: str) -> None:
        """It speaks again, or for the first time."""
        self.silent.discard(node)
        await self._client.patch(NODES, node, {"status": self._node_status()}, subresource="status")
        await self._renew(node)
        for pod in self._pods.list():
            if node_of(pod) == node:
                self._queue.add(key_of(pod))

    def look_again(self) -> None:
        """Go over all pods."""
        for pod in self._pods.list():
            self._queue.add(key_of(pod))

    async def put(self, pod: Object, **fields: Any) -> None:
        """Write fields of a pod's status."""
        with suppress(NotFound, Conflict):
            await self._client.update(PODS, {**pod, "status": {**status(pod), **fields}}, subresource="status")

    async def end(self, pod: Object, code: int) -> None:
        """Its containers exit with that code; its restart policy says what follows."""
        policy = spec(pod).get("restartPolicy", "Always")
        if policy == "Always" or (policy == "OnFailure" and code):
            restarts = 1 + max((each["restartCount"] for each in status(pod).get("containerStatuses") or ()), default=0)
            await self.put(pod, containerStatuses=self._containers(pod, {"running": {}}, restarts))
            return
        await self.put(pod, **self._finished(pod, code))

    async def drop(self, pod: Object) -> None:
        """Its node has no room for it any more."""
        why = {"reason": "Evicted", "message": "The node was low on resource: memory."}
        await self.put(pod, phase="Failed", conditions=self._conditions("False"), **why)

    async def set_ready(self, pod: Object, ready: bool) -> None:
        """Its probe says so."""
        if podlib.phase(pod) == "Running":
            await self.put(pod, conditions=self._conditions("True" if ready else "False"))

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._queue.add_after(key_of(new), 0.0 if self.calm else self._random.choice([0, 0, 0.01, 0.5, 2, 4]))
        elif old is not None:
            self._ends.pop(uid(old), None)

    async def _reconcile(self, key: str) -> Result | None:
        pod = self._pods.by_key(key)
        if pod is None:
            return None
        node = spec(pod).get("nodeName") or ""
        if not node:
            return await self._bind(pod) if self._binds and not deleting(pod) else None
        if node in self.silent or node not in self.names:
            return None
        if deleting(pod):
            await self._stop(pod)
        elif podlib.phase(pod) == "Pending":
            await self.put(pod, **self._running(pod))
        elif podlib.phase(pod) == "Running":
            return await self._keep(pod)
        return None

    async def _bind(self, pod: Object) -> Result | None:
        node = node_of(pod) or self._choose()
        if node not in self.names:
            return Result(5.0)
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        meta = {"name": name(pod)}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target}
        await self._client.create(PODS, binding, namespace(pod), name=name(pod), subresource="binding")
        return None

    def _choose(self) -> str:
        """A node that takes pods."""
        fit = [
            each for each in self._nodes.list() if not spec(each).get("unschedulable") and not spec(each).get("taints")
        ]
        names = sorted(name(each) for each in fit if name(each) in self.names and name(each) not in self.silent)
        return self._random.choice(names) if names else ""

    async def _stop(self, pod: Object) -> None:
        """Say that its containers ended, then let it go."""
        if not podlib.terminal(pod) and pod["metadata"].get("finalizers"):
            await self.put(pod, **self._finished(pod, 143))
        with suppress(NotFound, Conflict):
            await self._client.delete(PODS, name(pod), namespace(pod), grace_seconds=0, uid=uid(pod))

    async def _keep(self, pod: Object) -> Result | None:
        """A pod that runs gets ready if it is not; one that is to end does so in its time."""
        if self.calm and not podlib.ready(pod):
            await self.set_ready(pod, True)
        if spec(pod).get("restartPolicy", "Always") == "Always":
            return None
        now = self._clock.time()
        end = self._ends.setdefault(uid(pod), now + (1.0 if self.calm else self._random.choice([1, 3, 10, 40])))
        if now < end:
            return Result(end - now)
        del self._ends[uid(pod)]
        await self.end(pod, 0 if self.calm else self._random.choice(_CODES))
        return None

    def _running(self, pod: Object) -> dict[str, Any]:
        self._addresses += 1
        address = f"10.{self._addresses >> 16}.{self._addresses >> 8 & 255}.{self._addresses & 255}"
        ready = "True" if self.calm or self._random.random() < 0.9 else "False"
        return {
            "phase": "Running",
            "startTime": rfc3339(self._clock.time()),
            "conditions": self._conditions(ready),
            "containerStatuses": self._containers(pod, {"running": {}}, 0),
            "podIP": address,
            "podIPs": [{"ip": address}],
        }

    def _finished(self, pod: Object, code: int) -> dict[str, Any]:
        ended = {
            "exitCode": code,
            "finishedAt": rfc3339(self._clock.time()),
            "reason": "Error" if code else "Completed",
        }
        return {
            "phase": "Failed" if code else "Succeeded",
            "conditions": self._conditions("False"),
            "containerStatuses": self._containers(pod, {"terminated": ended}, 0),
        }

    def _conditions(self, ready: str) -> list[dict[str, str]]:
        now = rfc3339(self._clock.time())
        values = {"PodScheduled": "True", "Initialized": "True", "ContainersReady": ready, "Ready": ready}
        return [{"type": type, "status": value, "lastTransitionTime": now} for type, value in values.items()]

    def _containers(self, pod: Object, state: dict[str, Any], restarts: int) -> list[dict[str, Any]]:
        fixed = {"state": state, "ready": "running" in state, "restartCount": restarts, "imageID": ""}
        return [{"name": each["name"], "image": each.get("image", ""), **fixed} for each in spec(pod)["containers"]]

    def _node_status(self) -> dict[str, Any]:
        now = rfc3339(self._clock.time())
        values = {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}
        conditions = [
            {"type": type, "status": value, "lastHeartbeatTime": now, "lastTransitionTime": now}
            for type, value in values.items()
        ]
        return {"conditions": conditions, "capacity": _ROOM, "allocatable": _ROOM}

    async def _correct(self, node: str) -> None:
        """Deny what was said about it while it was not heard."""
        found = self._nodes.get("", node)
        if found is not None and not podlib.ready(found):
            with suppress(NotFound):
                await self._client.patch(NODES, node, {"status": self._node_status()}, subresource="status")

    async def _renew(self, node: str) -> None:
        times = {"leaseDurationSeconds": 40, "renewTime": rfc3339_micro(self._clock.time())}
        meta = {"name": node, "namespace": LEASE_NAMESPACE}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}
        lease["spec"] = {"holderIdentity": node, **times}
        try:
            await self._client.patch(LEASES, node, {"spec": lease["spec"]}, LEASE_NAMESPACE)
        except NotFound:
            with suppress(ApiError):  # its namespace is still to be made: the next renewal tries again
                await self._client.create(LEASES, lease)

"""Notices that nodes fall silent, and keeps their taints and their pods' readiness in step with their conditions.

The shell of `node_health`. Nothing is polled: each node has one timer, for the moment when its silence would be too
long, that every sign of life moves on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.base.errors import NotFound
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.informer import index_by_field
from tiphys.client.reconcile import Result
from tiphys.client.resources import LEASES, NODES, PODS
from tiphys.client.types import STRATEGIC_PATCH, Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.node_health import (
    EvictionPolicy,
    Health,
    beta_labels,
    evicting,
    no_execute,
    pods_to_unready,
    ready_status,
    silent,
    with_taints,
    zone_of,
)
from tiphys.controllers.nodes import taints_of
from tiphys.controllers.objects import condition, name, namespace, status, uid

LEASE_NAMESPACE = "kube-node-lease"
_AFTER = 0.1
"""Seconds that a check comes after the moment it is for."""


class NodeLifecycleController(Controller):
    """Keys are nodes."""

    name = "node-lifecycle-controller"
    account = "node-controller"
    component = "node-controller"
    workers = 4

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._grace = float(settings.get("node-monitor-grace-period", 50.0))
        self._startup_grace = float(settings.get("node-startup-grace-period", 60.0))
        self._policy = EvictionPolicy(
            rate=float(settings.get("node-eviction-rate", 0.1)),
            secondary_rate=float(settings.get("secondary-node-eviction-rate", 0.01)),
            unhealthy=float(settings.get("unhealthy-zone-threshold", 0.55)),
            large=int(settings.get("large-cluster-size-threshold", 50)),
        )
        self._nodes = self.watch(NODES)
        self._leases = self.watch(LEASES, namespace=LEASE_NAMESPACE)
        self._pods = self.watch(PODS)
        self._pods.add_index("node", index_by_field("spec", "nodeName"))
        self._health: dict[str, Health] = {}
        self._evicted: dict[str, float] = {}
        self._was_ready: dict[str, str] = {}
        self._nodes.subscribe(self._node_changed)
        self._leases.subscribe(self._lease_changed)
        self._pods.subscribe(self._pod_changed)

    async def reconcile(self, key: str) -> Result | None:
        node = self._nodes.get("", key)
        if node is None:
            self._health.pop(key, None)
            self._was_ready.pop(key, None)
            return None
        now = self.clock.monotonic()
        known = self._health.get(key)
        if known is None:
            self._tell(node, NORMAL, "RegisteredNode", f"Registered Node {key} in Controller")
        health = (known or Health(now)).seen(node, self._leases.get(LEASE_NAMESPACE, key), now)
        self._health[key] = health
        left = health.left(node, self._grace, self._startup_grace, now)
        if left <= 0:
            node = await self._mark_silent(node)
        await self._label(node)
        after = await self._taint(node, now)
        await self._sync_pods(node)
        if left > 0:
            after = left + _AFTER if after is None else min(after, left + _AFTER)
        return Result(after)

    async def _mark_silent(self, node: Object) -> Object:
        conditions = silent(node, self.clock.time())
        if conditions is None:
            return node
        return await self.update_status(NODES, node, {**status(node), "conditions": conditions})

    async def _label(self, node: Object) -> None:
        missing = beta_labels(node)
        if missing:
            await self._patch(node, {"metadata": {"labels": missing}})

    async def _taint(self, node: Object, now: float) -> float | None:
        """Put the taints right; returns when to come back because the rate of evictions was used up."""
        zone = zone_of(node)
        interval = self._policy.interval(self._nodes.list(), zone)
        due = self._evicted.get(zone)
        wait = 0.0 if interval is None or due is None else due + interval - now
        add = interval is not None and wait <= 0
        before = taints_of(node)
        taints = with_taints(node, self.clock.time(), add=add, keep=interval is not None)
        after = before if taints is None else taints
        if evicting(after) and not evicting(before):
            self._evicted[zone] = now
        if taints is not None:
            version = node["metadata"].get("resourceVersion")
            await self._patch(node, {"metadata": {"resourceVersion": version}, "spec": {"taints": taints}})
        held_back = interval is not None and no_execute(node) is not None and not evicting(after)
        return max(wait, _AFTER) if held_back else None

    async def _sync_pods(self, node: Object) -> None:
        """Pods of a node that is not ready are not ready either: Services stop sending to them."""
        was, now = self._was_ready.get(name(node), ""), ready_status(node)
        self._was_ready[name(node)] = now
        if was == "True" and now != "True":
            ref = {"kind": "Node", "apiVersion": "v1", "name": name(node), "uid": uid(node)}
            self.recorder.about(ref, NORMAL, "NodeNotReady", f"Node {name(node)} status is now: NodeNotReady")
        if now in ("", "True"):
            return
        for pod in pods_to_unready(self._pods.by_index("node", name(node))):
            await self._mark_unready(pod)

    async def _mark_unready(self, pod: Object) -> None:
        stamp = rfc3339(self.clock.time())
        old = condition(status(pod), "Ready") or {}
        new = {**old, "type": "Ready", "status": "False", "lastTransitionTime": stamp}
        patch = {"metadata": {"uid": uid(pod)}, "status": {"conditions": [new]}}
        try:
            await self.client.patch(PODS, name(pod), patch, namespace(pod), type=STRATEGIC_PATCH, subresource="status")
        except NotFound:
            return
        self.recorder.event(pod, WARNING, "NodeNotReady", "Node is not ready")

    async def _patch(self, node: Object, patch: Mapping[str, Any]) -> None:
        try:
            await self.client.patch(NODES, name(node), patch, type=STRATEGIC_PATCH)
        except NotFound:
            return

    def _tell(self, node: Object, type: str, reason: str, message: str) -> None:
        ref = {"kind": "Node", "apiVersion": "v1", "name": name(node), "uid": uid(node)}
        self.recorder.about(ref, type, reason, f"Node {name(node)} event: {message}")

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        node = new or old
        if node is None:
            return
        self.queue.add(name(node))
        if new is None:
            self._tell(node, NORMAL, "RemovingNode", f"Removing Node {name(node)} from Controller")
        ready_before = old is not None and ready_status(old) == "True"
        if ready_before != (new is not None and ready_status(new) == "True"):
            for other in self._nodes.list():
                self.queue.add(name(other))

    def _lease_changed(self, old: Object | None, new: Object | None) -> None:
        """A renewal only moves the time; but of a node that was given up it is the first sign of life."""
        if new is None:
            return
        node = self._nodes.get("", name(new))
        health = self._health.get(name(new))
        if node is not None and health is not None:
            self._health[name(new)] = health.seen(node, new, self.clock.monotonic())

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """A pod that says it is ready, on a node that is not, is put right."""
        node = self._nodes.get("", (new.get("spec") or {}).get("nodeName") or "") if new is not None else None
        if (
            new is not None
            and node is not None
            and ready_status(node) in ("False", "Unknown")
            and pods_to_unready([new])
        ):
            self.queue.add(name(node))

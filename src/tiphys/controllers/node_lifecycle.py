"""Notices that nodes fall silent, and keeps their taints and their pods' readiness in step with their conditions.

The shell of `node_health` and `node_zones`. Nothing is polled: each node has one timer, for the check at which its
silence would be too long, and a sign of life only moves the moment that is compared with then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.base.errors import NotFound
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.informer import index_by_field, key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import LEASES, NODES, PODS
from tiphys.client.types import STRATEGIC_PATCH, Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.node_health import (
    Execution,
    Health,
    beta_labels,
    evicting,
    next_check,
    pods_to_unready,
    ready_status,
    silent,
    with_taints,
)
from tiphys.controllers.node_zones import EvictionPolicy, Shift, Zones
from tiphys.controllers.nodes import taints_of
from tiphys.controllers.objects import condition, name, namespace, spec, status, uid

LEASE_NAMESPACE = "kube-node-lease"

_POD = "pod:"
_ZONES = "zones:"
_SETTLING = 0.05
"""Seconds after a change in which the zones are not judged: more nodes may be found lost at the same check."""
_HESITATION = 0.1
"""Seconds from a node's loss to the taint that evicts its pods: the zones are judged first."""


class NodeLifecycleController(Controller):
    """Keys are nodes, with the prefix "pod:" pods that came to a node, and "zones:"."""

    name = "node-lifecycle-controller"
    account = "node-controller"
    component = "node-controller"
    workers = 8

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._period = float(settings.get("node-monitor-period", 5.0))
        self._grace = float(settings.get("node-monitor-grace-period", 50.0))
        self._startup_grace = float(settings.get("node-startup-grace-period", 60.0))
        self._zones = Zones(
            EvictionPolicy(
                rate=float(settings.get("node-eviction-rate", 0.1)),
                secondary_rate=float(settings.get("secondary-node-eviction-rate", 0.01)),
                unhealthy=float(settings.get("unhealthy-zone-threshold", 0.55)),
                large=int(settings.get("large-cluster-size-threshold", 50)),
            )
        )
        self._nodes = self.watch(NODES)
        self._leases = self.watch(LEASES, namespace=LEASE_NAMESPACE)
        self._pods = self.watch(PODS)
        self._pods.add_index("node", index_by_field("spec", "nodeName"))
        self._health: dict[str, Health] = {}
        self._lost_at: dict[str, float] = {}
        self._condemned: set[str] = set()
        self._failing: set[str] = set()
        self._marking = 0
        self._nodes.subscribe(self._node_changed)
        self._leases.subscribe(self._lease_changed)
        self._pods.subscribe(self._pod_changed)

    async def reconcile(self, key: str) -> Result | None:
        if key == _ZONES:
            return self._settle()
        if key.startswith(_POD):
            await self._check_pod(key.removeprefix(_POD))
            return None
        node = self._nodes.get("", key)
        if node is None:
            self._forget(key)
            return None
        now = self.clock.monotonic()
        left = self._seen(node, now).left(node, self._grace, self._startup_grace, now)
        if left < 0:
            node = await self._mark_silent(node)
        await self._label(node)
        after = await self._taint(node, now)
        await self._unready_pods(node)
        if left >= 0:
            check = next_check(left, now, self._period)
            after = check if after is None else min(after, check)
        return Result(after)

    def _seen(self, node: Object, now: float) -> Health:
        """Remember what the node and its lease say."""
        key = name(node)
        known = self._health.get(key)
        if known is None:
            known = Health.first(node, now, self.clock.time())
            self._tell(node, "RegisteredNode", f"Node {key} event: Registered Node {key} in Controller")
        self._health[key] = known.seen(node, self._leases.get(LEASE_NAMESPACE, key), now)
        return self._health[key]

    def _forget(self, key: str) -> None:
        self._health.pop(key, None)
        self._lost_at.pop(key, None)
        self._condemned.discard(key)
        self._failing.discard(key)

    async def _mark_silent(self, node: Object) -> Object:
        conditions = silent(node, self.clock.time())
        if conditions is None:
            return node
        self._marking += 1
        try:
            marked = await self.update_status(NODES, node, {**status(node), "conditions": conditions})
        finally:
            self._marking -= 1
        self._observe(marked)
        if ready_status(node) == "True":
            self._tell(node, "NodeNotReady", f"Node {name(node)} status is now: NodeNotReady")
            self._failing.add(name(node))
        return marked

    async def _label(self, node: Object) -> None:
        missing = beta_labels(node)
        if missing:
            await self._patch(node, {"metadata": {"labels": missing}})

    async def _taint(self, node: Object, now: float) -> float | None:
        """Put the taints right; seconds until the node may get the one that evicts its pods, None if it has to wait."""
        execution, after = self._execution(node, now)
        taints = with_taints(node, self.clock.time(), execution)
        if taints is not None:
            version = node["metadata"].get("resourceVersion")
            await self._patch(node, {"metadata": {"resourceVersion": version}, "spec": {"taints": taints}})
        self._condemned.discard(name(node))
        return after

    def _execution(self, node: Object, now: float) -> tuple[Execution, float | None]:
        key, ready = name(node), ready_status(node)
        if ready not in ("False", "Unknown"):
            self._lost_at.pop(key, None)
            self._condemned.discard(key)
            self._withdraw(key, now)
            return (Execution.REMOVE if ready == "True" else Execution.KEEP), None
        if self._zones.lost:
            self._condemned.discard(key)
            self._zones.take(key, now)  # it waits with all the others until a node is back
            return Execution.REMOVE, None
        if key in self._condemned or evicting(taints_of(node)):
            return Execution.ADD, None
        hesitation = self._lost_at.setdefault(key, now) + _HESITATION - now
        if hesitation > 0:
            return Execution.KEEP, hesitation
        taken = self._zones.take(key, now)
        self._wake(now)
        if taken:
            self._condemned.add(key)  # until the taint is there: a conflict must not cost a second turn
        return (Execution.ADD if taken else Execution.KEEP), None

    def _withdraw(self, key: str, now: float) -> None:
        if self._zones.withdraw(key):
            self._wake(now)

    def _wake(self, now: float) -> None:
        """Have those nodes looked at that are the next to be given up."""
        for key, wait in self._zones.turns(now):
            self.queue.add_after(key, max(wait, _HESITATION))

    def _settle(self) -> Result | None:
        if self._marking or len(self.queue):
            return Result(_SETTLING)
        now = self.clock.monotonic()
        shift = self._zones.settle(now)
        if shift is Shift.LOST:
            for node in self._nodes.list():
                if evicting(taints_of(node)):
                    self.queue.add(name(node))
        elif shift is Shift.BACK:
            self._health = {key: Health(now, health.heartbeat, health.renewed) for key, health in self._health.items()}
        self._wake(now)
        return None

    async def _unready_pods(self, node: Object) -> None:
        """Pods of a node that fell silent are not ready either: Services stop sending to them."""
        if name(node) not in self._failing or ready_status(node) == "True":
            self._failing.discard(name(node))
            return
        for pod in pods_to_unready(self._pods.by_index("node", name(node))):
            await self._mark_unready(pod)
        self._failing.discard(name(node))

    async def _check_pod(self, key: str) -> None:
        """A pod that says it is ready when it comes to a node that is not."""
        pod = self._pods.by_key(key)
        if pod is not None and self._is_lost(str(spec(pod).get("nodeName") or "")) and pods_to_unready([pod]):
            await self._mark_unready(pod)

    def _is_lost(self, node: str) -> bool:
        found = self._nodes.get("", node)
        return found is not None and node in self._health and ready_status(found) in ("False", "Unknown")

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

    def _tell(self, node: Object, reason: str, message: str) -> None:
        ref = {"kind": "Node", "apiVersion": "v1", "name": name(node), "uid": uid(node)}
        self.recorder.about(ref, NORMAL, reason, message)

    def _observe(self, node: Object) -> None:
        if self._zones.observe(name(node), node, ready=ready_status(node) == "True"):
            self.queue.add_after(_ZONES, _SETTLING)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._observe(new)
            self.queue.add(name(new))
        elif old is not None:
            self.queue.add(name(old))
            self._tell(old, "RemovingNode", f"Node {name(old)} event: Removing Node {name(old)} from Controller")
            if self._zones.observe(name(old), None, ready=False):
                self.queue.add_after(_ZONES, _SETTLING)

    def _lease_changed(self, old: Object | None, new: Object | None) -> None:
        """A renewal only moves the time."""
        node = self._nodes.get("", name(new)) if new is not None else None
        health = self._health.get(name(new)) if new is not None else None
        if node is not None and health is not None:
            self._health[name(node)] = health.seen(node, new, self.clock.monotonic())

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or (old is not None and spec(old).get("nodeName") == spec(new).get("nodeName")):
            return
        if self._is_lost(str(spec(new).get("nodeName") or "")):
            self.queue.add(_POD + key_of(new))

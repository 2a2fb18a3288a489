"""Deletes pods that do not tolerate a NoExecute taint of their node, at once or when their patience ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.base.errors import NotFound
from tiphys.client.events import NORMAL
from tiphys.client.informer import index_by_field, key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import NODES, PODS
from tiphys.client.types import STRATEGIC_PATCH, Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.nodes import Taint, taints_of, tolerates
from tiphys.controllers.objects import condition, deleting, name, namespace, spec, status, uid


def no_execute(node: Object) -> list[Taint]:
    return [each for each in taints_of(node) if each.get("effect") == "NoExecute"]


def patience(tolerations: Sequence[Mapping[str, Any]], taints: Iterable[Taint]) -> float | None:
    """Seconds that a pod may stay; 0: it does not tolerate a taint, None: it tolerates all of them for ever."""
    shortest: float | None = None
    for taint in taints:
        used = [each for each in tolerations if tolerates(each, taint)]
        if not used:
            return 0.0
        for each in used:
            seconds = each.get("tolerationSeconds")
            if seconds is not None:
                shortest = max(0.0, float(seconds)) if shortest is None else min(shortest, max(0.0, float(seconds)))
    return shortest


class TaintEvictionController(Controller):
    """Keys are pods."""

    name = "taint-eviction-controller"
    account = "node-controller"
    workers = 8

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._nodes = self.watch(NODES)
        self._pods = self.watch(PODS)
        self._pods.add_index("node", index_by_field("spec", "nodeName"))
        self._since: dict[str, float] = {}
        self._nodes.subscribe(self._node_changed)
        self._pods.subscribe(self._pod_changed)

    async def reconcile(self, key: str) -> Result | None:
        pod = self._pods.by_key(key)
        node = self._nodes.get("", spec(pod).get("nodeName") or "") if pod is not None else None
        taints = no_execute(node) if node is not None else []
        if pod is None or deleting(pod) or not taints:
            self._cancel(key, pod)
            return None
        seconds = patience(spec(pod).get("tolerations") or (), taints)
        if seconds is None:
            self._cancel(key, pod)
            return None
        now = self.clock.monotonic()
        left = self._since.setdefault(key, now) + seconds - now
        if left > 0:
            return Result(left)
        await self._evict(pod)
        return None

    async def _evict(self, pod: Object) -> None:
        key = key_of(pod)
        self.recorder.about(_reference(pod), NORMAL, "TaintManagerEviction", f"Marking for deletion Pod {key}")
        self._since.pop(key, None)
        try:
            await self._explain(pod)
            await self.client.delete(PODS, name(pod), namespace(pod), uid=uid(pod))
        except NotFound:
            return

    async def _explain(self, pod: Object) -> None:
        if condition(status(pod), "DisruptionTarget") is not None:
            return
        target = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": rfc3339(self.clock.time()),
        }
        patch = {"metadata": {"uid": uid(pod)}, "status": {"conditions": [target]}}
        await self.client.patch(PODS, name(pod), patch, namespace(pod), type=STRATEGIC_PATCH, subresource="status")

    def _cancel(self, key: str, pod: Object | None) -> None:
        if self._since.pop(key, None) is not None and pod is not None and not deleting(pod):
            self.recorder.about(_reference(pod), NORMAL, "TaintManagerEviction", f"Cancelling deletion of Pod {key}")

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        node = new or old
        before = no_execute(old) if old is not None else []
        if node is None or before == (no_execute(new) if new is not None else []):
            return
        for pod in self._pods.by_index("node", name(node)):
            self.queue.add(key_of(pod))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self.enqueue(old, new)
        elif old is None or _placing(old) != _placing(new):
            node = self._nodes.get("", spec(new).get("nodeName") or "")
            if node is None or no_execute(node):
                self.enqueue(old, new)


def _placing(pod: Object) -> tuple[Any, Any]:
    return spec(pod).get("nodeName"), spec(pod).get("tolerations")


def _reference(pod: Object) -> dict[str, str]:
    return {"kind": "Pod", "apiVersion": "v1", "name": name(pod), "namespace": namespace(pod)}

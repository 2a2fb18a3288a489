"""Deletes pods that nobody else will: of nodes that are gone, never started ones, too many finished ones.

Nothing is polled: a pod is looked at when it changes, and again after the quarantine if its node is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tiphys.base.errors import NotFound
from tiphys.client.informer import index_by_field, key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import NODES, PODS
from tiphys.client.types import STRATEGIC_PATCH, Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.disruption_target import observed, status_patch, target
from tiphys.controllers.nodes import is_ready, taints_of
from tiphys.controllers.objects import created, deleting, name, namespace, spec, status, uid

QUARANTINE = 40.0
"""Seconds that a node must be missing before its pods are given up."""

_REASON, _MESSAGE = "DeletionByPodGC", "PodGC: node no longer exists"
_GATHERING = 1.0
"""Seconds in which finished pods are gathered before the surplus of them is looked for."""
_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_ALL = "*"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A pod is to go; `orphaned` if its node does not exist any more."""

    orphaned: bool = False


def judge(pod: Object, node_of: Callable[[str], Object | None]) -> Sentence | None:
    """Whether a pod is to be deleted at once; orphans only after their quarantine."""
    bound = spec(pod).get("nodeName") or ""
    if not bound:
        return Sentence() if deleting(pod) else None
    node = node_of(bound)
    if node is None:
        return Sentence(orphaned=True)
    out = any(each["key"] == _OUT_OF_SERVICE for each in taints_of(node))
    return Sentence() if deleting(pod) and out and not is_ready(node) else None


def surplus(pods: Iterable[Object], threshold: int) -> list[Object]:
    """Finished pods beyond the threshold: evicted ones first, then the oldest."""
    finished = [pod for pod in pods if podlib.terminal(pod)]
    finished.sort(key=lambda pod: (status(pod).get("reason") != "Evicted", created(pod), name(pod)))
    return finished[: max(0, len(finished) - threshold)] if threshold > 0 else []


class PodGarbageController(Controller):
    """Keys are pods, and "*" for the number of finished ones."""

    name = "pod-garbage-collector-controller"
    account = "pod-garbage-collector"
    workers = 4

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._threshold = int(context.settings.get("terminated-pod-gc-threshold", 12500))
        self._nodes = self.watch(NODES)
        self._pods = self.watch(PODS)
        self._pods.add_index("node", index_by_field("spec", "nodeName"))
        self._missing: dict[str, float] = {}
        self._finished = 0
        self._nodes.subscribe(self._node_changed)
        self._pods.subscribe(self._pod_changed)

    async def reconcile(self, key: str) -> Result | None:
        if key == _ALL:
            for finished in surplus(self._pods.list(), self._threshold):
                await self._delete(finished, Sentence())
            return None
        pod = self._pods.by_key(key)
        sentence = judge(pod, lambda node: self._nodes.get("", node)) if pod is not None else None
        if pod is None or sentence is None:
            return None
        if sentence.orphaned:
            left = self._quarantine(str(spec(pod)["nodeName"]))
            if left > 0:
                return Result(left)
            if await self._node_exists(str(spec(pod)["nodeName"])):
                return None
        await self._delete(pod, sentence)
        return None

    def _quarantine(self, node: str) -> float:
        """Seconds left of it."""
        now = self.clock.monotonic()
        return self._missing.setdefault(node, now) + QUARANTINE - now

    async def _node_exists(self, node: str) -> bool:
        try:
            await self.client.get(NODES, node)
        except NotFound:
            return False
        return True

    async def _delete(self, pod: Object, sentence: Sentence) -> None:
        try:
            if not podlib.terminal(pod):
                await self._fail(pod, sentence)
            await self.client.delete(PODS, name(pod), namespace(pod), grace_seconds=0, uid=uid(pod))
        except NotFound:
            return

    async def _fail(self, pod: Object, sentence: Sentence) -> None:
        """It ends as Failed, so that its controller can count it."""
        condition = target(pod, _REASON, _MESSAGE, self.clock.time()) if sentence.orphaned else None
        patch = status_patch(pod, condition, phase="Failed", **observed(pod))
        await self.client.patch(PODS, name(pod), patch, namespace(pod), type=STRATEGIC_PATCH, subresource="status")

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._missing.pop(name(new), None)
            pods = self._pods.by_index("node", name(new)) if taints_of(new) else ()
            for pod in pods:
                if deleting(pod):
                    self.queue.add(key_of(pod))
        elif old is not None:
            for pod in self._pods.by_index("node", name(old)):
                self.queue.add(key_of(pod))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        before = old is not None and podlib.terminal(old)
        after = new is not None and podlib.terminal(new)
        self._finished += after - before
        if after > before and self._finished > self._threshold > 0:
            self.queue.add_after(_ALL, _GATHERING)
        if new is None and old is not None:
            self._last_of_node(str(spec(old).get("nodeName") or ""))
        if new is not None and judge(new, lambda node: self._nodes.get("", node)) is not None:
            self.queue.add(key_of(new))

    def _last_of_node(self, node: str) -> None:
        if not self._pods.count("node", node):
            self._missing.pop(node, None)

"""Deletes pods that do not tolerate a NoExecute taint of their node, at once or when their patience ends.

A pod's end is set by the taints and tolerations that were seen first; later ones cancel it or bring it forward to now,
but do not move it. That is upstream's way: a node that flaps cannot keep its pods for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.base.errors import NotFound
from tiphys.client.events import NORMAL
from tiphys.client.informer import index_by_field, key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import NODES, PODS
from tiphys.client.types import STRATEGIC_PATCH, Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.disruption_target import status_patch, target
from tiphys.controllers.nodes import Taint, Toleration, taints_of, tolerates
from tiphys.controllers.objects import name, namespace, spec, uid

_REASON, _MESSAGE = "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A pod is to be deleted at `due` (monotonic seconds)."""

    uid: str
    due: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows for a pod: its sentence from now on, and whether one that it had is cancelled."""

    sentence: Sentence | None
    cancelled: bool = False


def no_execute(node: Object) -> list[Taint]:
    return [each for each in taints_of(node) if each.get("effect") == "NoExecute"]


def matching(tolerations: Sequence[Toleration], taints: Iterable[Taint]) -> list[Toleration] | None:
    """The first toleration of each taint; None if a taint is not tolerated."""
    found = []
    for taint in taints:
        used = next((each for each in tolerations if tolerates(each, taint)), None)
        if used is None:
            return None
        found.append(used)
    return found


def patience(used: Iterable[Toleration]) -> float | None:
    """The fewest seconds that `used` tolerations grant; None: for ever."""
    limits = [each["tolerationSeconds"] for each in used if each.get("tolerationSeconds") is not None]
    return max(0.0, float(min(limits))) if limits else None


def judge(pod: Object, taints: Sequence[Taint], had: Sentence | None, now: float) -> Verdict:
    """What follows for `pod` under the NoExecute taints of its node; `had` is its sentence so far."""
    if had is not None and had.uid != uid(pod):
        return Verdict(judge(pod, taints, None, now).sentence, cancelled=True)
    used = matching(spec(pod).get("tolerations") or (), taints)
    if used is None:
        return Verdict(Sentence(uid(pod), now), cancelled=had is not None)
    seconds = patience(used)
    if seconds is None:
        return Verdict(None, cancelled=had is not None)
    return Verdict(had or Sentence(uid(pod), now + seconds))


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
        self._sentences: dict[str, Sentence] = {}
        self._nodes.subscribe(self._node_changed)
        self._pods.subscribe(self._pod_changed)

    async def reconcile(self, key: str) -> Result | None:
        pod, had, now = self._pods.by_key(key), self._sentences.get(key), self.clock.monotonic()
        if pod is None:
            self._pass(key, Verdict(None, cancelled=had is not None))
            return None
        if had is not None and had.uid == uid(pod) and had.due <= now:
            await self._evict(key, pod)
            return None
        node = self._nodes.get("", spec(pod).get("nodeName") or "")
        if node is None:
            return None  # whoever is to go still goes; nobody new is judged by a node that is not there
        verdict = judge(pod, no_execute(node), had, now)
        self._pass(key, verdict)
        if verdict.sentence is None:
            return None
        if verdict.sentence.due > now:
            return Result(verdict.sentence.due - now)
        self._tell(key, "Marking for deletion Pod")
        await self._evict(key, pod, told=True)
        return None

    def _pass(self, key: str, verdict: Verdict) -> None:
        if verdict.cancelled:
            self._tell(key, "Cancelling deletion of Pod")
        if verdict.sentence is None:
            self._sentences.pop(key, None)
        else:
            self._sentences[key] = verdict.sentence

    async def _evict(self, key: str, pod: Object, *, told: bool = False) -> None:
        """Delete `pod`; its sentence stays until that is done."""
        if not told:
            self._tell(key, "Marking for deletion Pod")
        try:
            await self._explain(pod)
            await self.client.delete(PODS, name(pod), namespace(pod), uid=uid(pod))
        except NotFound:
            pass
        self._sentences.pop(key, None)

    async def _explain(self, pod: Object) -> None:
        condition = target(pod, _REASON, _MESSAGE, self.clock.time())
        if condition is None:
            return
        patch = status_patch(pod, condition)
        await self.client.patch(PODS, name(pod), patch, namespace(pod), type=STRATEGIC_PATCH, subresource="status")

    def _tell(self, key: str, what: str) -> None:
        where, _, pod = key.partition("/")
        reference = {"kind": "Pod", "apiVersion": "v1", "name": pod, "namespace": where}
        self.recorder.about(reference, NORMAL, "TaintManagerEviction", f"{what} {key}")

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or (old is not None and no_execute(old) == no_execute(new)):
            return
        if old is None and not no_execute(new):
            return
        for pod in self._pods.by_index("node", name(new)):
            self.queue.add(key_of(pod))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self.enqueue(old, new)
        elif old is None or _placing(old) != _placing(new) or uid(old) != uid(new):
            node = self._nodes.get("", spec(new).get("nodeName") or "")
            if node is None or no_execute(node) or key_of(new) in self._sentences:
                self.enqueue(old, new)


def _placing(pod: Object) -> tuple[Any, Any]:
    return spec(pod).get("nodeName"), spec(pod).get("tolerations")

"""The disruption controller: keeps the status of PodDisruptionBudgets, from which evictions are granted.

How many pods are expected is the sum of what their controllers want: known kinds from caches, others by their scale
subresource. It also takes back the condition DisruptionTarget of pods that were not deleted after all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api import selectors
from tiphys.base.errors import ApiError, Conflict, NotFound
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.informer import Informer, key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import (
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)
from tiphys.client.types import Object
from tiphys.controllers import disruption_state as state
from tiphys.controllers import pods as podlib
from tiphys.controllers.autoscaler_target import Scales, split_version
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import controller_of, deleting, int_of, labels, name, namespace, spec, status, uid

_POD = "pod:"
_APPS = ("apps", "extensions")


class Unknown(Exception):
    """How many pods are expected cannot be told."""


class DisruptionController(Controller):
    """The shell; keys are budgets, and with the prefix "pod:" pods whose eviction may have come to nothing."""

    name = "disruption-controller"
    account = "disruption-controller"
    component = "controllermanager"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._budgets = self.watch(POD_DISRUPTION_BUDGETS)
        self._pods = self.watch(PODS)
        self._deployments = self.watch(DEPLOYMENTS)
        self._replica_sets = self.watch(REPLICA_SETS)
        self._direct = {
            "ReplicationController": (self.watch(REPLICATION_CONTROLLERS), ("",)),
            "StatefulSet": (self.watch(STATEFUL_SETS), ("apps",)),
        }
        self._scales = Scales(self.client)
        self._budgets.subscribe(self.enqueue)
        self._pods.subscribe(self._pod_changed)

    async def reconcile(self, key: str) -> Result | None:
        if key.startswith(_POD):
            return await self._sync_pod(key.removeprefix(_POD))
        budget = self._budgets.by_key(key)
        if budget is None or self.behind(key, budget):
            return None
        now = self.clock.time()
        pods = self._selected(budget)
        if not pods:
            self.recorder.event(budget, NORMAL, "NoPods", "No matching pods found")
        try:
            expected = await self._expected(budget, pods)
            going = state.disrupted(budget, pods, now)
            new = state.new_status(budget, pods, expected, going.pods, now)
        except (Unknown, ApiError, OSError, ValueError) as error:
            message = f"Failed to calculate the number of expected pods: {error}"
            self.recorder.event(budget, WARNING, "CalculateExpectedPodCountFailed", message)
            await self._write(budget, state.failed_status(budget, str(error), now))
            return None
        for pod in going.overdue:
            # the namespace is there twice in upstream's words, too
            text = f"Pod was expected by PDB {namespace(budget)}/{namespace(budget)} to be deleted but it wasn't"
            self.recorder.event(pod, WARNING, "NotDeleted", text)
        await self._write(budget, new)
        return Result(None if going.recheck is None else going.recheck + 0.001)

    async def _write(self, budget: Object, new: Mapping[str, Any]) -> None:
        if new != status(budget):
            await self.update_status(POD_DISRUPTION_BUDGETS, budget, new)

    def _selected(self, budget: Object) -> Sequence[Object]:
        selector = selectors.from_object(spec(budget).get("selector"))
        return [pod for pod in self._pods.list(namespace(budget)) if selector.matches(labels(pod))]

    async def _expected(self, budget: Object, pods: Sequence[Object]) -> int:
        if not state.counts_controllers(budget):
            return len(pods) if spec(budget).get("minAvailable") is not None else 0
        scales: dict[str, int] = {}
        asked: set[str] = set()
        unmanaged = 0
        for pod in pods:
            reference = controller_of(pod)
            if reference is None:
                unmanaged += 1
            elif reference["uid"] not in asked:
                asked.add(reference["uid"])
                identity, size = await self._scale_of(reference, pod)
                scales[identity] = size
        if unmanaged:
            shown = state.selector_text(spec(budget).get("selector"))
            message = (
                f"Pods selected by this PodDisruptionBudget (selector: {shown}) were found to be unmanaged. As a "
                "result, the status of the PDB cannot be calculated correctly, which may result in undefined "
                'behavior. To account for these pods please set ".spec.minAvailable" field of the PDB to an integer '
                "value."
            )
            self.recorder.event(budget, WARNING, "UnmanagedPods", message)
        return sum(scales.values())

    async def _scale_of(self, reference: Mapping[str, Any], pod: Object) -> tuple[str, int]:
        """(uid, wanted replicas) of what controls `pod` in the end. Raises Unknown, ApiError."""
        group, _ = split_version(reference["apiVersion"])
        found = None
        if reference["kind"] == "ReplicaSet" and group in _APPS:
            found = self._of_replica_set(reference, namespace(pod))
        elif reference["kind"] in self._direct and group in self._direct[reference["kind"]][1]:
            found = _cached(self._direct[reference["kind"]][0], reference, namespace(pod))
        if found is not None:
            return uid(found), int_of(spec(found).get("replicas"), 1)
        scale = await self._foreign_scale(reference, namespace(pod))
        if scale is None:
            raise Unknown(f'found no controllers for pod "{name(pod)}"')
        return uid(scale), int_of(spec(scale).get("replicas"))

    def _of_replica_set(self, reference: Mapping[str, Any], where: str) -> Object | None:
        """The ReplicaSet, or the Deployment that owns it."""
        replica_set = _cached(self._replica_sets, reference, where)
        owner = controller_of(replica_set) if replica_set is not None else None
        if owner is None or owner["kind"] != "Deployment":
            return replica_set
        return _cached(self._deployments, owner, where)

    async def _foreign_scale(self, reference: Mapping[str, Any], where: str) -> Object | None:
        version, kind = reference["apiVersion"], reference["kind"]
        resource = (await self._scales.resources(*_split(version, kind)))[0]
        try:
            _, scale = await self._scales.find_in(version, kind, where, reference["name"])
        except NotFound:
            if not await self._scales.implements_scale(resource):
                joined = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
                raise Unknown(f"{joined} does not implement the scale subresource") from None
            return None
        return scale if uid(scale) == reference["uid"] else None

    async def _sync_pod(self, key: str) -> Result | None:
        pod = self._pods.by_key(key)
        after = state.stale_after(pod, self.clock.time()) if pod is not None else None
        if pod is None or after is None:
            return None
        if after > 0:
            return Result(after)
        new = {**pod, "status": state.without_target(pod, self.clock.time())}
        try:
            await self.client.update(PODS, new, subresource="status")
        except (NotFound, Conflict):
            return Result(1.0)
        return None

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and (after := state.stale_after(new, self.clock.time())) is not None:
            self.queue.add_after(_POD + key_of(new), after)
        if old is not None and new is not None and _seen(old) == _seen(new):
            return
        for pod in (old, new):
            if pod is None or (pod is old and new is not None and labels(old) == labels(new)):
                continue
            budgets = self._covering(pod)
            if len(budgets) > 1 and new is not None:
                message = (
                    f'Pod "{namespace(pod)}"/"{name(pod)}" matches multiple PodDisruptionBudgets.  '
                    f'Chose "{name(budgets[0])}" arbitrarily.'
                )
                self.recorder.event(pod, WARNING, "MultiplePodDisruptionBudgets", message)
            for budget in budgets:
                self.enqueue_owner(key_of(budget), self._pods.count("namespace", namespace(pod)))

    def _covering(self, pod: Object) -> list[Object]:
        budgets = self._budgets.list(namespace(pod)) if namespace(pod) else []
        return [each for each in budgets if _selects(each, pod)]


def _split(version: str, kind: str) -> tuple[str, str, str]:
    group, number = split_version(version)
    return group, kind, number


def _selects(budget: Object, pod: Object) -> bool:
    try:
        return selectors.from_object(spec(budget).get("selector")).matches(labels(pod))
    except ValueError:
        return False


def _seen(pod: Object) -> tuple[Any, ...]:
    """What of a pod matters to a budget: a heartbeat or a restart count does not."""
    return labels(pod), deleting(pod), podlib.ready(pod), pod["metadata"].get("ownerReferences")


def _cached(informer: Informer, reference: Mapping[str, Any], where: str) -> Object | None:
    found = informer.get(where, reference["name"])
    return found if found is not None and uid(found) == reference["uid"] else None

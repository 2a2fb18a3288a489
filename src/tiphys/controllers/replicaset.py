"""ReplicaSet: so many pods that match a selector, no more and no fewer.

Pure: `decide` (what to create and delete) and `new_status`. The shell claims pods, waits for its own writes to
show in the cache, carries decisions out and writes the status.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tiphys.api import selectors
from tiphys.api.selectors import LabelSelector
from tiphys.base.clock import rfc3339
from tiphys.client.informer import index_by_owner, key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import PODS, REPLICA_SETS
from tiphys.client.types import Object, Resource
from tiphys.controllers import pods as podlib
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.claims import claim, settle
from tiphys.controllers.expectations import Expectations
from tiphys.controllers.objects import (
    condition,
    controller_of,
    deleting,
    int_of,
    labels,
    namespace,
    same_wish,
    spec,
    status,
    uid,
    without_condition,
)
from tiphys.controllers.podcontrol import BURST, Failure, PodControl


@dataclass(frozen=True, slots=True)
class Decision:
    """How many pods to create, or which to delete."""

    create: int = 0
    delete: tuple[Object, ...] = ()


def decide(replica_set: Object, active: Sequence[Object], related: Iterable[Object], now: float) -> Decision:
    """What brings the number of `active` pods to the wanted one; `related` pods help choosing victims."""
    surplus = len(active) - int_of(spec(replica_set).get("replicas"), 1)
    if surplus < 0:
        return Decision(create=-surplus)
    if surplus >= len(active):
        return Decision(delete=tuple(active))
    if surplus > 0:
        return Decision(delete=tuple(podlib.ranked_for_deletion(active, related, now)[:surplus]))
    return Decision()


def new_status(
    replica_set: Object, active: Sequence[Object], terminating: int, failure: str, now: float
) -> dict[str, Any]:
    """The status that follows from its pods; `failure` is why creating or deleting failed, "" if it did not."""
    wanted = spec(replica_set)
    min_ready = int_of(wanted.get("minReadySeconds"))
    counts = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(podlib.fully_labeled(pod, wanted.get("template") or {}) for pod in active),
        "readyReplicas": sum(map(podlib.ready, active)),
        "availableReplicas": sum(podlib.available(pod, min_ready, now) for pod in active),
    }
    new: dict[str, Any] = {key: value for key, value in counts.items() if value or key == "replicas"}
    new["terminatingReplicas"] = terminating
    new["observedGeneration"] = int_of(replica_set["metadata"].get("generation"))
    if conditions := _conditions(replica_set, len(active), failure, now):
        new["conditions"] = conditions
    return new


def _conditions(replica_set: Object, active: int, failure: str, now: float) -> list[Mapping[str, Any]]:
    present = list(status(replica_set).get("conditions") or ())
    old = condition(status(replica_set), "ReplicaFailure")
    if not failure:
        return without_condition(present, "ReplicaFailure")
    if old is not None:
        return present
    reason = "FailedCreate" if active < int_of(spec(replica_set).get("replicas"), 1) else "FailedDelete"
    new = {
        "type": "ReplicaFailure",
        "status": "True",
        "lastTransitionTime": rfc3339(now),
        "reason": reason,
        "message": failure,
    }
    return [*present, new]


def next_check(replica_set: Object, active: Sequence[Object], now: float) -> float | None:
    """Seconds until a ready pod has been ready for long enough to count as available."""
    return podlib.next_availability(active, int_of(spec(replica_set).get("minReadySeconds")), now)


class ReplicaSetController(Controller):
    """The shell; keys are ReplicaSets, or objects of another kind that works like them."""

    name = "replicaset-controller"
    account = "replicaset-controller"
    resource: ClassVar[Resource] = REPLICA_SETS
    kind: ClassVar[str] = "ReplicaSet"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._sets = self.watch(self.resource)
        self._pods = self.watch(PODS)
        self._sets.add_index("owner", index_by_owner)
        self._pods.add_index("owner", index_by_owner)
        self._pods.add_index("orphans", podlib.orphans_by_namespace)
        self._expectations = Expectations(self._pods, self.clock)
        self._control = PodControl(self.client, self.recorder, self._expectations)
        self._sets.subscribe(self._set_changed)
        self._pods.subscribe(self._pod_changed)

    def selector(self, replica_set: Object) -> LabelSelector:
        """Which pods are its own."""
        return selectors.from_object(spec(replica_set).get("selector"))

    def status(
        self, replica_set: Object, active: Sequence[Object], terminating: int, failure: str, now: float
    ) -> dict[str, Any]:
        """See `new_status`."""
        return new_status(replica_set, active, terminating, failure, now)

    async def reconcile(self, key: str) -> Result | None:
        replica_set = self._sets.by_key(key)
        if replica_set is None:
            self._expectations.forget(key)
            return None
        if self.behind(key, replica_set):
            return None
        if not self._expectations.satisfied(key):
            return Result(self._expectations.patience)
        active, terminating = await self._claim(replica_set)
        now = self.clock.time()
        decision, failure = Decision(), None
        if not deleting(replica_set):
            decision = decide(replica_set, active, self._related(replica_set), now)
            failure = await self._carry_out(key, replica_set, decision)
        words = f"{'unable to delete pods: ' if decision.delete else ''}{failure}" if failure is not None else ""
        new = self.status(replica_set, active, terminating, words, now)
        if new != status(replica_set):
            await self.update_status(self.resource, replica_set, new)
        if failure is not None:
            raise failure
        return Result(next_check(replica_set, active, now))

    async def _claim(self, replica_set: Object) -> tuple[Sequence[Object], int]:
        """The active pods that it manages now, and the number of its pods that are terminating."""
        selector = self.selector(replica_set)
        candidates = self._pods.by_index("owner", uid(replica_set))
        candidates += self._pods.by_index("orphans", namespace(replica_set))
        claims = claim(replica_set, selector.matches, filter(podlib.active, candidates))
        active = await settle(self.client, self.resource, replica_set, PODS, claims)
        owned = self._pods.by_index("owner", uid(replica_set))
        return active, sum(podlib.terminating(pod) and selector.matches(labels(pod)) for pod in owned)

    async def _carry_out(self, key: str, replica_set: Object, decision: Decision) -> Failure | None:
        if decision.create:
            pod = podlib.from_template(spec(replica_set).get("template") or {}, replica_set)
            return await self._control.create(key, replica_set, [pod] * min(decision.create, BURST))
        if decision.delete:
            return await self._control.delete(key, replica_set, decision.delete)
        return None

    def _related(self, replica_set: Object) -> Iterator[Object]:
        """Pods of all ReplicaSets of the same Deployment; none for one that stands alone, as upstream."""
        owner = controller_of(replica_set)
        siblings = self._sets.by_index("owner", owner["uid"]) if owner else []
        return (pod for sibling in siblings for pod in self._pods.by_index("owner", uid(sibling)))

    def _set_changed(self, old: Object | None, new: Object | None) -> None:
        """What changes but a status, most often by ourselves, is no more urgent than the pods that it tells of."""
        if old is not None and new is not None and same_wish(old, new):
            self.enqueue_owner(key_of(new), self._pods.count("owner", uid(new)))
        else:
            self.enqueue(old, new)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        before = controller_of(old) if old is not None else None
        after = controller_of(new) if new is not None else None
        for reference, pod in ((before, old), (after, new)):
            if reference is not None and pod is not None and reference["kind"] == self.kind:
                size = self._pods.count("owner", reference["uid"])
                self.enqueue_owner(f"{namespace(pod)}/{reference['name']}", size)
        if new is not None and after is None and not deleting(new):
            self._orphan_changed(old, new)

    def _orphan_changed(self, old: Object | None, new: Object) -> None:
        if old is not None and labels(old) == labels(new) and controller_of(old) is None:
            return
        for replica_set in self._sets.list(namespace(new)):
            if self.selector(replica_set).matches(labels(new)):
                self.queue.add(key_of(replica_set))

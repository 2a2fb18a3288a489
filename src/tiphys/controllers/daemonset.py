"""DaemonSet: one pod on every node that its template may run on, each bound to its node by node affinity.

Pure: `place` (which nodes lack a pod, which pods are too many), `roll` (which pods an update replaces) and
`new_status`. Revisions of the template are kept as ControllerRevisions (`history`). The shell carries out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.api import selectors
from tiphys.base.errors import AlreadyExists, NotFound, Retry
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.informer import index_by_owner, key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.controllers import history
from tiphys.controllers import pods as podlib
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.claims import claim, settle
from tiphys.controllers.daemonset_backoff import FailedPodBackoff
from tiphys.controllers.daemonset_pods import (
    daemon_pod,
    hash_of,
    max_surge,
    max_unavailable,
    placement,
    should_run,
    target_node,
    updated,
)
from tiphys.controllers.expectations import Expectations
from tiphys.controllers.history import HASH_LABEL
from tiphys.controllers.objects import (
    controller_of,
    created,
    deleting,
    int_of,
    labels,
    name,
    namespace,
    spec,
    status,
    uid,
)
from tiphys.controllers.podcontrol import PodControl

Placed = Mapping[str, Sequence[Object]]
"""Pods of the DaemonSet by the node that they are meant for."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Nodes that need a pod, pods to delete, and which of those are to be reported as failed or succeeded."""

    create: tuple[str, ...] = ()
    delete: tuple[Object, ...] = ()
    finished: tuple[Object, ...] = ()


def by_node(pods: Iterable[Object]) -> dict[str, list[Object]]:
    """`pods` by target node; terminal pods on their way out count no more."""
    placed: dict[str, list[Object]] = {}
    for pod in pods:
        node = target_node(pod)
        if node and not (podlib.terminal(pod) and deleting(pod)):
            placed.setdefault(node, []).append(pod)
    for each in placed.values():
        each.sort(key=lambda pod: (not spec(pod).get("nodeName"), created(pod), name(pod)))
    return placed


def place(daemon_set: Object, nodes: Sequence[Object], placed: Placed, digest: str, now: float) -> Decision:
    """Which nodes need a pod and which pods are wrong where they are."""
    create: list[str] = []
    delete: list[Object] = []
    where = placement(daemon_set)
    for node in nodes:
        runs, continues = should_run(where, node)
        there = placed.get(name(node), ())
        alive = [pod for pod in there if not deleting(pod)]
        if not continues:
            delete += alive
            continue
        if runs and not there:
            create.append(name(node))
            continue
        delete += [pod for pod in alive if podlib.terminal(pod)]
        running = [pod for pod in alive if not podlib.terminal(pod)]
        if max_surge(daemon_set, 1) == 0:
            delete += running[1:]
        elif not running and runs:
            create.append(name(node))
        else:
            delete += _surplus(daemon_set, running, digest, now)
    known = {name(node) for node in nodes}
    lost = [pod for node, pods in placed.items() if node not in known for pod in pods]
    delete += [pod for pod in lost if not spec(pod).get("nodeName") and not deleting(pod)]
    return Decision(tuple(create), tuple(delete), tuple(pod for pod in delete if podlib.terminal(pod)))


def _surplus(daemon_set: Object, running: Sequence[Object], digest: str, now: float) -> list[Object]:
    """With surge a node may have one new and one old pod; the old one goes once the new one is available."""
    if len(running) <= 1:
        return []
    new = [pod for pod in running if hash_of(pod) == digest]
    old = [pod for pod in running if hash_of(pod) != digest]
    surplus = new[1:] + old[1:]
    if new and old:
        min_ready = int_of(spec(daemon_set).get("minReadySeconds"))
        if not podlib.ready(old[0]) or podlib.available(new[0], min_ready, now):
            surplus.append(old[0])
    return surplus


def roll(daemon_set: Object, nodes: Sequence[Object], placed: Placed, digest: str, now: float) -> Decision:
    """One step of a rolling update: old pods to delete, or with surge nodes to get a second, new pod."""
    if (spec(daemon_set).get("updateStrategy") or {}).get("type") != "RollingUpdate":
        return Decision()
    where = placement(daemon_set)
    wanted = [name(node) for node in nodes if should_run(where, node)[0]]
    surge, unavailable = max_surge(daemon_set, len(wanted)), max_unavailable(daemon_set, len(wanted))
    if wanted and not surge and not unavailable:
        unavailable = 1
    pairs = {node: _pair(daemon_set, placed.get(node, ()), digest) for node in {**dict.fromkeys(wanted), **placed}}
    if surge:
        return _roll_with_surge(daemon_set, pairs, set(wanted), surge, now)
    return _roll_by_deleting(daemon_set, pairs, unavailable, now)


Pair = tuple[Object | None, Object | None]


def _pair(daemon_set: Object, pods: Sequence[Object], digest: str) -> Pair | None:
    """(new pod, old pod) of a node; None if there are several of a kind, which `place` is going to clean up."""
    alive = [pod for pod in pods if not deleting(pod)]
    new = [pod for pod in alive if updated(daemon_set, pod, digest)]
    old = [pod for pod in alive if not updated(daemon_set, pod, digest)]
    if len(new) > 1 or len(old) > 1:
        return None
    return (new[0] if new else None), (old[0] if old else None)


def _roll_by_deleting(daemon_set: Object, pairs: Mapping[str, Pair | None], limit: int, now: float) -> Decision:
    min_ready = int_of(spec(daemon_set).get("minReadySeconds"))
    unavailable, broken, candidates = 0, [], []
    for pair in pairs.values():
        new, old = pair or (None, None)
        if new is not None and old is None:
            unavailable += not podlib.available(new, min_ready, now)
        elif old is not None and new is None:
            if podlib.available(old, min_ready, now):
                candidates.append(old)
            else:
                broken.append(old)
                unavailable += 1
        else:
            unavailable += 1
    return Decision(delete=tuple(broken + candidates[: max(0, limit - unavailable)]))


def _roll_with_surge(
    daemon_set: Object, pairs: Mapping[str, Pair | None], wanted: set[str], limit: int, now: float
) -> Decision:
    min_ready = int_of(spec(daemon_set).get("minReadySeconds"))
    surging, available = 0, 0
    delete: list[Object] = []
    sunset: list[Object] = []
    at_once: list[str] = []
    candidates: list[str] = []
    for node, pair in pairs.items():
        if pair is None:
            surging += 1
            continue
        new, old = pair
        first = old or new
        old_is_available = old is not None and podlib.available(old, min_ready, now)
        available += first is not None and podlib.available(first, min_ready, now)
        if old is None:
            continue
        if new is not None:
            if podlib.available(new, min_ready, now):
                delete.append(old)
            else:
                surging += 1
        elif node not in wanted:
            (sunset if old_is_available else delete).append(old)
        else:
            (candidates if old_is_available else at_once).append(node)
    delete += sunset[: max(0, available - len(wanted))]
    return Decision(create=tuple(at_once + candidates[: max(0, limit - surging)]), delete=tuple(delete))


def new_status(
    daemon_set: Object, nodes: Sequence[Object], placed: Placed, digest: str, observed: int, now: float
) -> dict[str, Any]:
    """The status that follows from where its pods are; `observed` is the generation that was acted on."""
    min_ready = int_of(spec(daemon_set).get("minReadySeconds"))
    desired = current = misscheduled = ready = up_to_date = available = 0
    where = placement(daemon_set)
    for node in nodes:
        there = placed.get(name(node), ())
        if not should_run(where, node)[0]:
            misscheduled += bool(there)
            continue
        desired += 1
        if there:
            current += 1
            ready += podlib.ready(there[0])
            available += podlib.available(there[0], min_ready, now)
            up_to_date += updated(daemon_set, there[0], digest)
    new: dict[str, Any] = {
        "currentNumberScheduled": current,
        "numberMisscheduled": misscheduled,
        "desiredNumberScheduled": desired,
        "numberReady": ready,
    }
    optional = {
        "observedGeneration": observed,
        "updatedNumberScheduled": up_to_date,
        "numberAvailable": available,
        "numberUnavailable": desired - available,
    }
    new |= {key: value for key, value in optional.items() if value}
    kept = {key: status(daemon_set)[key] for key in ("collisionCount", "conditions") if key in status(daemon_set)}
    return {**new, **kept}


class DaemonSetController(Controller):
    """The shell; keys are DaemonSets."""

    name = "daemonset-controller"
    account = "daemon-set-controller"
    workers = 2

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._sets = self.watch(DAEMON_SETS)
        self._nodes = self.watch(NODES)
        self._pods = self.watch(PODS)
        self._revisions = self.watch(CONTROLLER_REVISIONS)
        for informer in (self._pods, self._revisions):
            informer.add_index("owner", index_by_owner)
            informer.add_index("orphans", podlib.orphans_by_namespace)
        self._expectations = Expectations(self._pods, self.clock)
        self._control = PodControl(self.client, self.recorder, self._expectations)
        self._backoff = FailedPodBackoff()
        self._sets.subscribe(self.enqueue)
        self._nodes.subscribe(self._node_changed)
        self._pods.subscribe(self._pod_changed)
        self._revisions.subscribe(self._revision_changed)

    async def reconcile(self, key: str) -> Result | None:
        daemon_set = self._sets.by_key(key)
        if daemon_set is None:
            self._expectations.forget(key)
            return None
        if self.behind(key, daemon_set):
            return None
        if not spec(daemon_set).get("selector"):
            message = "This daemon set is selecting all pods. A non-empty selector is required."
            self.recorder.event(daemon_set, WARNING, "SelectingAll", message)
            return None
        if deleting(daemon_set):
            return None
        current, old = await self._sync_history(daemon_set)
        digest = labels(current).get(HASH_LABEL, "")
        failure = None
        satisfied = self._expectations.satisfied(key)
        observed = int_of(status(daemon_set).get("observedGeneration"))
        if satisfied:
            failure = await self._sync_pods(key, daemon_set, digest)
            await self._clean_history(daemon_set, old)
            observed = int_of(daemon_set["metadata"].get("generation"))
        after = await self._sync_status(daemon_set, digest, observed)
        if failure is not None:
            raise failure
        return Result(after)

    async def _claimed(self, daemon_set: Object) -> Sequence[Object]:
        selector = selectors.from_object(spec(daemon_set)["selector"])
        candidates = self._pods.by_index("owner", uid(daemon_set))
        candidates += self._pods.by_index("orphans", namespace(daemon_set))
        claims = claim(daemon_set, selector.matches, candidates)
        return await settle(self.client, DAEMON_SETS, daemon_set, PODS, claims)

    async def _sync_pods(self, key: str, daemon_set: Object, digest: str) -> Exception | None:
        nodes, now = sorted(self._nodes.list(), key=name), self.clock.time()
        placed = by_node(await self._claimed(daemon_set))
        decision = self._hold_back(key, daemon_set, place(daemon_set, nodes, placed, digest, now))
        failure = await self._carry_out(key, daemon_set, digest, decision)
        if failure is None and self._expectations.satisfied(key):
            if decision.create or decision.delete:
                placed = by_node(await self._claimed(daemon_set))  # what was just written shows already
            failure = await self._carry_out(key, daemon_set, digest, roll(daemon_set, nodes, placed, digest, now))
        return failure

    def _hold_back(self, key: str, daemon_set: Object, decision: Decision) -> Decision:
        """Leave failed pods alone while their node's back-off runs, else they would fail in a tight loop."""
        kept, now = [], self.clock.monotonic()
        for pod in decision.finished:
            place_of = (uid(daemon_set), int_of(status(daemon_set).get("observedGeneration")), target_node(pod))
            where = f"daemon pod {namespace(pod)}/{name(pod)} on node {target_node(pod)}"
            if podlib.phase(pod) == "Succeeded":
                message = f"Found succeeded {where}, will try to delete it"
                self.recorder.event(daemon_set, NORMAL, "SucceededDaemonPod", message)
            elif wait := self._backoff.wait(place_of, now):
                kept.append(pod)
                self.queue.add_after(key, wait)
            else:
                self._backoff.failed(place_of, now)
                message = f"Found failed {where}, will try to kill it"
                self.recorder.event(daemon_set, WARNING, "FailedDaemonPod", message)
        delete = tuple(pod for pod in decision.delete if all(pod is not each for each in kept))
        return Decision(decision.create, delete)

    async def _carry_out(self, key: str, daemon_set: Object, digest: str, decision: Decision) -> Exception | None:
        wanted = [daemon_pod(daemon_set, node, digest) for node in decision.create]
        failure = await self._control.create(key, daemon_set, wanted)
        return await self._control.delete(key, daemon_set, decision.delete) or failure

    async def _sync_status(self, daemon_set: Object, digest: str, observed: int) -> float | None:
        nodes, now = self._nodes.list(), self.clock.time()
        pods = self._pods.by_index("owner", uid(daemon_set))
        new = new_status(daemon_set, nodes, by_node(pods), digest, observed, now)
        if new != status(daemon_set):
            await self.update_status(DAEMON_SETS, daemon_set, new)
        return podlib.next_availability(pods, int_of(spec(daemon_set).get("minReadySeconds")), now)

    async def _sync_history(self, daemon_set: Object) -> tuple[Object, Sequence[Object]]:
        """(the revision of the present template, created or renumbered if need be, the other ones)."""
        selector = selectors.from_object(spec(daemon_set)["selector"])
        candidates = self._revisions.by_index("owner", uid(daemon_set))
        candidates += self._revisions.by_index("orphans", namespace(daemon_set))
        claims = claim(daemon_set, selector.matches, candidates)
        settled = await settle(self.client, DAEMON_SETS, daemon_set, CONTROLLER_REVISIONS, claims)
        revisions = [await self._labelled(revision) for revision in settled]
        decision = history.decide(daemon_set, revisions)
        if decision.create is not None:
            return await self._create_revision(daemon_set, decision.create), decision.old
        assert decision.current is not None, "a revision exists or is to be created"
        for duplicate in decision.duplicates:
            await self._replace_duplicate(daemon_set, decision.current, duplicate)
        if decision.renumbered is not None:
            await self.client.update(CONTROLLER_REVISIONS, decision.renumbered)
        return decision.current, decision.old

    async def _labelled(self, revision: Object) -> Object:
        wanted = history.labelled(revision)
        return revision if wanted is revision else await self.client.update(CONTROLLER_REVISIONS, wanted)

    async def _create_revision(self, daemon_set: Object, wanted: Object) -> Object:
        try:
            return await self.client.create(CONTROLLER_REVISIONS, wanted)
        except AlreadyExists:
            held = await self.client.get(CONTROLLER_REVISIONS, name(wanted), namespace(wanted))
        if history.matches(daemon_set, held):
            return held
        count = int_of(status(daemon_set).get("collisionCount")) + 1
        await self.update_status(DAEMON_SETS, daemon_set, {**status(daemon_set), "collisionCount": count})
        raise Retry(f"the name {name(wanted)} is taken, trying another one")

    async def _replace_duplicate(self, daemon_set: Object, current: Object, duplicate: Object) -> None:
        for pod in self._pods.by_index("owner", uid(daemon_set)):
            if hash_of(pod) == labels(duplicate).get(HASH_LABEL):
                patch = {"metadata": {"labels": {HASH_LABEL: labels(current).get(HASH_LABEL)}}}
                await self.client.patch(PODS, name(pod), patch, namespace(pod), type=MERGE_PATCH)
        await self._delete_revision(duplicate)

    async def _clean_history(self, daemon_set: Object, old: Sequence[Object]) -> None:
        live = {hash_of(pod) for pod in self._pods.by_index("owner", uid(daemon_set))}
        for revision in history.removable(daemon_set, old, live):
            await self._delete_revision(revision)

    async def _delete_revision(self, revision: Object) -> None:
        try:
            await self.client.delete(CONTROLLER_REVISIONS, name(revision), namespace(revision))
        except NotFound:
            return

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """Only what decides where daemon pods run matters: heartbeats must not wake every DaemonSet."""
        if old is not None and new is not None and _placement(old) == _placement(new):
            return
        for daemon_set in self._sets.list():
            self.enqueue_owner(key_of(daemon_set), len(self._nodes))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            owner = controller_of(pod) if pod is not None else None
            if owner is not None and pod is not None and owner["kind"] == "DaemonSet":
                size = self._pods.count("owner", owner["uid"])
                self.enqueue_owner(f"{namespace(pod)}/{owner['name']}", size)
        self._orphan_changed(old, new)

    def _revision_changed(self, old: Object | None, new: Object | None) -> None:
        """What somebody does to a revision is looked at; a new one is our own doing."""
        owner = controller_of(old) if old is not None else None
        if owner is not None and old is not None and owner["kind"] == "DaemonSet":
            self.queue.add(f"{namespace(old)}/{owner['name']}")
        self._orphan_changed(old, new)

    def _orphan_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or controller_of(new) is not None or (old is not None and not _orphaned_or_relabelled(old, new)):
            return
        for daemon_set in self._sets.list(namespace(new)):
            if selectors.from_object(spec(daemon_set).get("selector")).matches(labels(new)):
                self.queue.add(key_of(daemon_set))


def _placement(node: Object) -> tuple[Any, ...]:
    return labels(node), spec(node).get("taints"), spec(node).get("unschedulable")


def _orphaned_or_relabelled(old: Object, new: Object) -> bool:
    return labels(old) != labels(new) or controller_of(old) is not None

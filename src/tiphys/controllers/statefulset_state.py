"""StatefulSet: pods with an identity each, brought up in order, taken down in reverse. Pure.

`plan` turns a set, its pods and their claims into stages of steps and the status that follows. With the policy
OrderedReady every step is a stage of its own, and nothing comes after a pod that is not available; with Parallel
a stage's steps have no order. A failed step ends the plan: what follows is decided afresh.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers import statefulset_claims as claimlib
from tiphys.controllers.objects import deleting, int_of, name, scaled, spec, status
from tiphys.controllers.statefulset_claims import Claims
from tiphys.controllers.statefulset_history import template_of
from tiphys.controllers.statefulset_pods import (
    in_range,
    new_pod,
    ordinal_of,
    repaired,
    replicas_of,
    revision_of,
    start_of,
)

_COUNTS = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
_AT_ONCE = 500
"""As many pods are created in one go at most."""
_COMPARED = (*_COUNTS, "currentRevision", "updateRevision")


@dataclass(frozen=True, slots=True)
class Step:
    """One pod's next step; its claims come first, their owners after it."""

    verb: Literal["create", "delete", "update", "claims"]
    pod: Object
    """As it is to be created or updated; as it is, for the others."""
    new_claims: tuple[Object, ...] = ()
    owned_claims: tuple[Object, ...] = ()
    """Claims with the owner references that they are to have."""
    blocked: tuple[str, ...] = ()
    """Names of claims on their way out: the pod has to wait until they are gone."""
    disputed: tuple[str, ...] = ()
    """Names of claims that another controller manages."""
    same_pod: bool = False
    """For an update: the pod itself is as it should be, only its claims are not."""


@dataclass(frozen=True, slots=True)
class Revisions:
    """ControllerRevisions: the one before the update, and the present template's."""

    current: Object
    update: Object


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, stage by stage, and how things are until then."""

    stages: tuple[tuple[Step, ...], ...]
    status: Mapping[str, Any]


@dataclass(slots=True)
class _Draft:
    """A plan in the making: `blocked` once nothing may follow."""

    ordered: bool
    stages: list[tuple[Step, ...]] = field(default_factory=list)
    blocked: bool = False

    def stage(self, steps: Sequence[Step]) -> None:
        if self.ordered:
            self.stages += [(step,) for step in steps]
        elif steps:
            self.stages.append(tuple(steps))


def plan(
    stateful_set: Object, pods: Sequence[Object], claims: Claims, revisions: Revisions, collisions: int, now: float
) -> Plan:
    """The next steps. `pods` are those that the set manages, `collisions` counts taken names of revisions."""
    members = [pod for pod in pods if ordinal_of(pod) >= 0]
    new_status = _status(stateful_set, members, revisions, collisions, now)
    draft = _Draft(ordered=spec(stateful_set).get("podManagementPolicy") != "Parallel")
    if not deleting(stateful_set):
        replicas = _replicas(stateful_set, members, revisions, 1 if draft.ordered else _AT_ONCE)
        condemned = sorted((pod for pod in members if not in_range(stateful_set, pod)), key=ordinal_of, reverse=True)
        _keep(draft, stateful_set, replicas, claims, now)
        if not draft.blocked:
            _condemn(draft, stateful_set, condemned, claims, now)
        if not draft.blocked:
            gone = {name(step.pod) for stage in draft.stages for step in stage if step.verb == "delete"}
            outdated = _outdated(stateful_set, replicas, name(revisions.update), now)
            outdated = [pod for pod in outdated if name(pod) not in gone]
            draft.stages += [(Step("delete", pod),) for pod in outdated]
            new_status["currentReplicas"] = max(0, new_status["currentReplicas"] - len(outdated))
    _complete(stateful_set, new_status)
    return Plan(tuple(draft.stages), _shown(new_status))


def inconsistent(stateful_set: Object, new: Mapping[str, Any]) -> bool:
    """Whether the stored status says something else; who wrote conditions into it is not asked."""
    old = status(stateful_set)
    if int_of(new.get("observedGeneration")) > int_of(old.get("observedGeneration")):
        return True
    return any((new.get(key) or 0) != (old.get(key) or 0) for key in _COMPARED)


def next_check(stateful_set: Object, pods: Iterable[Object], new: Mapping[str, Any], now: float) -> float | None:
    """Seconds until a ready pod has been ready for long enough; None if none is waited for."""
    min_ready = int_of(spec(stateful_set).get("minReadySeconds"))
    if min_ready <= 0 or new.get("readyReplicas", 0) == new.get("availableReplicas", 0):
        return None
    return podlib.next_availability(pods, min_ready, now) or float(min_ready)


def _replicas(stateful_set: Object, pods: Sequence[Object], revisions: Revisions, most: int) -> list[Object]:
    """The pods of its ordinals in order; one that is missing is as it is to be created.

    Of those that are missing only the first `most`: whoever asks for a thousand million pods gets them in turns."""
    present = {ordinal_of(pod): pod for pod in pods if in_range(stateful_set, pod)}
    start = start_of(stateful_set)
    wanted = range(start, start + replicas_of(stateful_set))
    lacking = islice((ordinal for ordinal in wanted if ordinal not in present), most)
    made = {}
    for ordinal in lacking:
        revision = revisions.current if _keeps_revision(stateful_set, ordinal) else revisions.update
        made[ordinal] = new_pod(stateful_set, template_of(revision), name(revision), ordinal)
    return [pod for _, pod in sorted({**present, **made}.items())]


def _keeps_revision(stateful_set: Object, ordinal: int) -> bool:
    """Whether a pod of `ordinal` that is lost comes back as it was before the update."""
    strategy = spec(stateful_set).get("updateStrategy") or {}
    rolling = strategy.get("rollingUpdate")
    if rolling is not None:
        return ordinal < start_of(stateful_set) + int_of(rolling.get("partition"))
    old = int_of(status(stateful_set).get("currentReplicas"))
    return strategy.get("type") == "RollingUpdate" and ordinal < start_of(stateful_set) + old


def _keep(draft: _Draft, stateful_set: Object, replicas: Sequence[Object], claims: Claims, now: float) -> None:
    steps = []
    for pod in replicas:
        step, halts = _next_step(stateful_set, pod, claims, now)
        if step is not None:
            steps.append(step)
        if halts and draft.ordered:
            draft.blocked = True
            break
    draft.stage(steps)


def _next_step(stateful_set: Object, pod: Object, claims: Claims, now: float) -> tuple[Step | None, bool]:
    """(what `pod` needs, whether those after it have to wait)."""
    if podlib.terminal(pod):
        return (None if deleting(pod) else Step("delete", pod)), True
    if not podlib.phase(pod):
        if claimlib.of_a_former_pod(stateful_set, pod, claims):
            return None, True
        return _with_claims("create", stateful_set, pod, claims), True
    waits = deleting(pod) or not _running(pod) or not _available(stateful_set, pod, now)
    step = _with_claims("claims", stateful_set, pod, claims) if podlib.phase(pod) == "Pending" else None
    if step is not None and not _works_on_claims(step):
        step = None
    ordered = spec(stateful_set).get("podManagementPolicy") != "Parallel"
    if step is None and not (waits and ordered):
        step = _repair(stateful_set, pod, claims)
    return step, waits


def _with_claims(verb: Literal["create", "claims"], stateful_set: Object, pod: Object, claims: Claims) -> Step:
    """A step that sees to the pod's claims as well."""
    missing = tuple(claim for claim in claimlib.new_claims(stateful_set, pod) if name(claim) not in claims)
    going = tuple(name(claim) for claim in claimlib.existing(stateful_set, pod, claims) if deleting(claim))
    return Step(verb, pod, missing, _reowned(stateful_set, pod, claims), going, _disputed(stateful_set, pod, claims))


def _reowned(stateful_set: Object, pod: Object, claims: Claims) -> tuple[Object, ...]:
    wrong = claimlib.misowned(stateful_set, pod, claims)
    return tuple(claimlib.with_owners(stateful_set, pod, claim) for claim in wrong)


def _disputed(stateful_set: Object, pod: Object, claims: Claims) -> tuple[str, ...]:
    return tuple(name(claim) for claim in claimlib.disputed(stateful_set, pod, claims))


def _works_on_claims(step: Step) -> bool:
    return bool(step.new_claims or step.owned_claims or step.blocked or step.disputed)


def _repair(stateful_set: Object, pod: Object, claims: Claims) -> Step | None:
    """Put back the identity, the volumes and the claims' owners that somebody took away."""
    owned = _reowned(stateful_set, pod, claims)
    wanted = repaired(stateful_set, pod)
    if wanted is pod and not owned:
        return None
    missing = [claim for claim in claimlib.new_claims(stateful_set, pod) if name(claim) not in claims]
    disputed = _disputed(stateful_set, pod, claims) if owned else ()
    return Step("update", wanted, tuple(missing) if wanted is not pod else (), owned, (), disputed, wanted is pod)


def _condemn(draft: _Draft, stateful_set: Object, condemned: Sequence[Object], claims: Claims, now: float) -> None:
    """Delete pods beyond the wanted number: in order one by one, and none while a lower one is unavailable."""
    fixes = [Step("claims", pod, (), _reowned(stateful_set, pod, claims)) for pod in condemned]
    draft.stage([step for step in fixes if step.owned_claims])
    unavailable = [pod for pod in reversed(condemned) if not _in_service(stateful_set, pod, now)]
    if not draft.ordered:
        draft.stage([Step("delete", pod) for pod in condemned if not deleting(pod)])
    elif condemned:
        draft.blocked = True
        last = condemned[0]
        if not deleting(last) and (not unavailable or last is unavailable[0] or _in_service(stateful_set, last, now)):
            draft.stage([Step("delete", last)])


def _outdated(stateful_set: Object, replicas: Sequence[Object], update: str, now: float) -> list[Object]:
    """Pods to delete for an update, the highest ordinals first."""
    strategy = spec(stateful_set).get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return []
    rolling = strategy.get("rollingUpdate") or {}
    lowest = start_of(stateful_set) + int_of(rolling.get("partition"))
    candidates = [pod for pod in replicas if ordinal_of(pod) >= lowest][::-1]
    most = rolling.get("maxUnavailable")
    if most is not None:
        room = max(1, scaled(most, replicas_of(stateful_set), round_up=False))
        room -= sum(not _in_service(stateful_set, pod, now) for pod in replicas)
        return [pod for pod in candidates if _is_old(pod, update)][: max(0, room)]
    for pod in candidates:
        if _is_old(pod, update):
            return [pod]
        if not _in_service(stateful_set, pod, now):
            return []
    return []


def _is_old(pod: Object, update: str) -> bool:
    return bool(podlib.phase(pod)) and revision_of(pod) != update and not deleting(pod)


def _running(pod: Object) -> bool:
    return podlib.phase(pod) == "Running" and podlib.ready(pod)


def _available(stateful_set: Object, pod: Object, now: float) -> bool:
    return podlib.available(pod, int_of(spec(stateful_set).get("minReadySeconds")), now)


def _in_service(stateful_set: Object, pod: Object, now: float) -> bool:
    return _available(stateful_set, pod, now) and not deleting(pod)


def _status(
    stateful_set: Object, pods: Sequence[Object], revisions: Revisions, collisions: int, now: float
) -> dict[str, Any]:
    made = [pod for pod in pods if podlib.phase(pod)]
    ready = [pod for pod in pods if _running(pod)]
    staying = [revision_of(pod) for pod in made if not deleting(pod)]
    return {
        "observedGeneration": int_of(stateful_set["metadata"].get("generation")),
        "replicas": len(made),
        "readyReplicas": len(ready),
        "currentReplicas": staying.count(name(revisions.current)),
        "updatedReplicas": staying.count(name(revisions.update)),
        "currentRevision": name(revisions.current),
        "updateRevision": name(revisions.update),
        "collisionCount": collisions,
        "availableReplicas": sum(_available(stateful_set, pod, now) for pod in ready),
    }


def _complete(stateful_set: Object, new: dict[str, Any]) -> None:
    """The update is over once every pod is updated and ready."""
    rolling = (spec(stateful_set).get("updateStrategy") or {}).get("type") == "RollingUpdate"
    if rolling and {new[key] for key in ("replicas", "readyReplicas", "updatedReplicas")} == {
        replicas_of(stateful_set)
    }:
        new["currentReplicas"] = new["updatedReplicas"]
        new["currentRevision"] = new["updateRevision"]


def _shown(new: Mapping[str, Any]) -> dict[str, Any]:
    always = ("replicas", "availableReplicas", "collisionCount")
    return {key: value for key, value in new.items() if value or key in always}

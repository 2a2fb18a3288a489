"""Rules for ReplicaSets, ReplicationControllers and Deployments: never more pods than wanted, nor fewer than promised.

A controller is blamed for what it decides, not for what happens meanwhile: it may go by any generation that its
status does not name yet, pods whose creation or deletion it was not told of do not count, and for a minute after
others meddled nobody is blamed for too few.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from component.random.bounds import Versions, without_lost
from component.random.state import Change, State
from component.random.weather import Weather
from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.objects import annotations_of, controller_of, int_of, name, spec, uid

_PLURALS = {"ReplicaSet": "replicasets", "ReplicationController": "replicationcontrollers"}
_ACCOUNTS = {"replicaset-controller", "replication-controller"}
DESIRED = "deployment.kubernetes.io/desired-replicas"


class Replicas:
    """A ReplicaSet creates no pod beyond its replicas, and deletes none that it needs."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._versions = {kind: Versions(plural, _replicas) for kind, plural in _PLURALS.items()}

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.plural == "pods" and change.controller in _ACCOUNTS:
            owner = controller_of(change.obj)
            if owner is not None and owner["kind"] in _PLURALS:
                yield from self._pod(change, state, owner["uid"], self._versions[owner["kind"]])
        for versions in self._versions.values():
            versions.note(change)

    def _pod(self, change: Change, state: State, owner: str, versions: Versions[int]) -> Iterator[str]:
        possible = versions.possible(owner)
        if not possible:
            return
        active = without_lost([each for each in state.controlled(owner) if podlib.active(each)], self._weather.lost)
        if change.old is None and len(active) + 1 > max(possible):
            yield f"{change.key} is one of {len(active) + 1}, but at most {max(possible)} are wanted"
        if change.doomed and change.old is not None and podlib.active(change.old):
            calm = state.undisturbed(owner, change.at) and uid(change.old) not in self._weather.lost
            lost = any(uid(each) in self._weather.lost for each in state.controlled(owner))
            if calm and not lost and len(active) - 1 < min(possible):
                yield f"{change.key} was deleted, {len(active) - 1} are left, but at least {min(possible)} are wanted"


def _replicas(obj: Object) -> int:
    return int_of(spec(obj).get("replicas"), 1)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one generation of a Deployment allows."""

    most: int
    least: int
    rolling: bool


def limits(deployment: Object) -> Limits:
    """Of pods in all, and of available ones, as the documentation of Deployments has it."""
    wanted = _replicas(deployment)
    strategy = spec(deployment).get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Limits(wanted, 0, rolling=False)
    rolling = strategy.get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", "25%"), wanted, math.ceil)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), wanted, math.floor)
    if not surge and not unavailable:
        unavailable = 1
    return Limits(wanted + surge, max(0, wanted - unavailable), rolling=True)


def _share(value: object, total: int, rounded: object) -> int:
    if isinstance(value, str):
        share = int(value.removesuffix("%")) * total / 100
        return math.ceil(share) if rounded is math.ceil else math.floor(share)
    return int_of(value)


class Rolling:
    """A Deployment scales nothing up beyond maxSurge and takes nothing down that maxUnavailable needs."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._versions = Versions("deployments", limits)

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.plural == "replicasets" and change.controller == "deployment-controller" and change.new is not None:
            owner = controller_of(change.new)
            possible = self._versions.possible(owner["uid"]) if owner is not None else []
            if owner is not None and possible:
                yield from self._scaled(change, state, owner["uid"], possible)
        self._versions.note(change)

    def _scaled(self, change: Change, state: State, owner: str, possible: list[Limits]) -> Iterator[str]:
        assert change.new is not None
        before = _replicas(change.old) if change.old is not None else 0
        after = _replicas(change.new)
        others = [each for each in state.controlled(owner, "replicasets") if uid(each) != uid(change.new)]
        total = after + sum(map(_replicas, others))
        most = max(each.most for each in possible)
        if after > before and total > most and state.undisturbed(owner, change.at):
            yield f"{change.key} was scaled to {after}: {total} in all, but at most {most} are allowed"
        resized = change.old is not None and _noted(change.old) != _noted(change.new)
        if after < before and not resized and state.undisturbed(owner, change.at):
            yield from self._shrunk(change, state, others, possible)

    def _shrunk(self, change: Change, state: State, others: list[Object], possible: list[Limits]) -> Iterator[str]:
        assert change.new is not None
        if not all(each.rolling for each in possible):
            return
        least = min(each.least for each in possible)
        remaining = sum(self._available(each, state, change.at) for each in [change.new, *others])
        held = self._available(change.old or change.new, state, change.at)
        lost = held - self._available(change.new, state, change.at)
        if lost > 0 and remaining < least:
            text = f"{name(change.new)} was scaled to {_replicas(change.new)}"
            yield f"{text}: {remaining} available ones remain, but at least {least} are promised"

    def _available(self, replica_set: Object, state: State, now: float) -> int:
        """Available pods that it will keep."""
        ready_for = int_of(spec(replica_set).get("minReadySeconds"))
        pods = [each for each in state.controlled(uid(replica_set)) if podlib.active(each)]
        return min(sum(podlib.available(each, ready_for, now) for each in pods), _replicas(replica_set))


def _noted(replica_set: Object) -> str:
    return annotations_of(replica_set).get(DESIRED, "")

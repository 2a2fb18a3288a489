"""Rules for DaemonSets and StatefulSets: one pod a node, one pod an ordinal, in order, and never too many down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from component.random.bounds import Versions, without_lost
from component.random.state import Change, State
from component.random.weather import Weather
from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.objects import controller_of, int_of, name, scaled, spec, uid


@dataclass(frozen=True, slots=True)
class Update:
    """What one generation of a DaemonSet allows on the way to another template."""

    surge: str | int
    unavailable: str | int
    on_delete: bool


def _update(daemon_set: Object) -> Update:
    strategy = spec(daemon_set).get("updateStrategy") or {}
    rolling = strategy.get("rollingUpdate") or {}
    return Update(rolling.get("maxSurge", 0), rolling.get("maxUnavailable", 1), strategy.get("type") == "OnDelete")


class Daemons:
    """A node has one pod of a DaemonSet, two while it surges; an update takes down no more than it may."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._versions = Versions("daemonsets", _update)

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.plural == "pods" and change.controller == "daemon-set-controller":
            owner = controller_of(change.obj)
            possible = self._versions.possible(owner["uid"]) if owner is not None else []
            if owner is not None and possible:
                if change.old is None:
                    yield from self._created(change, state, owner["uid"], possible)
                elif change.doomed:
                    yield from self._deleted(change, state, owner["uid"], possible)
        self._versions.note(change)

    def _created(self, change: Change, state: State, owner: str, possible: list[Update]) -> Iterator[str]:
        node = node_of(change.obj)
        active = [each for each in state.controlled(owner) if node_of(each) == node and podlib.active(each)]
        active = without_lost(active, self._weather.lost)
        room = 2 if any(each.surge not in (0, "0%") for each in possible) else 1
        if len(active) + 1 > room and state.undisturbed(owner, change.at):
            yield f"{change.key} is one of {len(active) + 1} on {node}: {', '.join(map(name, active))}"

    def _deleted(self, change: Change, state: State, owner: str, possible: list[Update]) -> Iterator[str]:
        assert change.old is not None
        node = state.objects.get(f"core/nodes/{node_of(change.old)}")
        if node is None or spec(node).get("taints") or state.get(owner) is None:
            return  # it need not run there
        if not state.undisturbed(owner, change.at) or not podlib.ready(change.old):
            return
        pods = [each for each in state.controlled(owner) if podlib.active(each) and uid(each) != uid(change.old)]
        if any(uid(each) in self._weather.lost for each in state.controlled(owner)):
            return
        nodes = {node_of(each) for each in state.controlled(owner)}
        ready = {node_of(each) for each in pods if podlib.ready(each)}
        same = node_of(change.old) in ready and len(pods) >= len(nodes)
        allowed = max(scaled(each.unavailable, len(nodes), round_up=True) for each in possible)
        if not same and len(nodes - ready) > max(allowed, 1 if not allowed and _no_surge(possible) else 0):
            yield f"{change.key} was deleted: {sorted(nodes - ready)} have none ready, {allowed} may"


def _no_surge(possible: list[Update]) -> bool:
    return any(each.surge in (0, "0%") for each in possible)


def node_of(pod: Object) -> str:
    """Where it runs, or is to run if it is a DaemonSet's."""
    if found := spec(pod).get("nodeName"):
        return str(found)
    affinity = (spec(pod).get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            return str(field["values"][0])
    return ""


@dataclass(frozen=True, slots=True)
class Ordinals:
    """Which pods one generation of a StatefulSet wants."""

    start: int
    end: int
    ordered: bool


def _ordinals(stateful_set: Object) -> Ordinals:
    wanted = spec(stateful_set)
    start = int_of((wanted.get("ordinals") or {}).get("start"))
    ordered = wanted.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
    return Ordinals(start, start + int_of(wanted.get("replicas"), 1), ordered)


class Stateful:
    """Pods of a StatefulSet come from the lowest ordinal up, go from the highest down, one after the other."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._versions = Versions("statefulsets", _ordinals)

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.plural == "pods" and change.controller == "statefulset-controller":
            owner = controller_of(change.obj)
            possible = self._versions.possible(owner["uid"]) if owner is not None else []
            if owner is not None and possible:
                if change.old is None:
                    yield from self._created(change, state, owner["uid"], possible)
                elif change.doomed:
                    yield from self._deleted(change, state, owner["uid"], possible)
        self._versions.note(change)

    def _created(self, change: Change, state: State, owner: str, possible: list[Ordinals]) -> Iterator[str]:
        number = ordinal(change.obj)
        if not any(each.start <= number < each.end for each in possible):
            yield f"{change.key} was created, but nobody asked for ordinal {number}"
        if not all(each.ordered for each in possible):
            return
        there = {ordinal(each): each for each in state.controlled(owner)}
        if not state.undisturbed(owner, change.at):
            return
        for lower in range(max(each.start for each in possible), number):
            if lower not in there or not podlib.ready(there[lower]):
                yield f"{change.key} was created before ordinal {lower} was ready"

    def _deleted(self, change: Change, state: State, owner: str, possible: list[Ordinals]) -> Iterator[str]:
        assert change.old is not None
        number = ordinal(change.old)
        calm = state.undisturbed(owner, change.at) and podlib.active(change.old)
        others = [each for each in state.controlled(owner) if uid(each) != uid(change.old)]
        if not calm or len(possible) > 1 or (not possible[0].ordered and number >= possible[0].end):
            return
        if number >= possible[0].end:
            higher = [name(each) for each in others if ordinal(each) > number]
            if higher:
                yield f"{change.key} was deleted before {', '.join(higher)}"
        elif number >= possible[0].start:
            yield from self._replaced(change, others, possible[0])

    def _replaced(self, change: Change, others: list[Object], wanted: Ordinals) -> Iterator[str]:
        """An update replaces one pod at a time; a pod that is not well itself may always be replaced."""
        assert change.old is not None
        if not podlib.ready(change.old):
            return
        ready = {ordinal(each) for each in others if podlib.ready(each) and podlib.active(each)}
        missing = set(range(wanted.start, wanted.end)) - ready - {ordinal(change.old)}
        if missing:
            yield f"{change.key} was deleted for an update while {sorted(missing)} were not ready"


def ordinal(pod: Object) -> int:
    last = name(pod).rpartition("-")[2]
    return int(last) if last.isdigit() else -1

"""Rules for what limits others: budgets of disruptions, quotas, slices of endpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator

from component.random.state import Change, State
from component.random.weather import CALM, Weather
from tiphys.api import selectors
from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.objects import controller_of, int_of, labels, name, namespace, spec, status, uid

_COUNTED = {"pods": "pods", "configmaps": "count/configmaps"}
DISRUPTION = "DisruptionTarget"


class Budgets:
    """An eviction leaves as many healthy pods as each budget wants, unless others made them fewer."""

    def __init__(self) -> None:
        self._changed: dict[str, float] = {}

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.plural == "poddisruptionbudgets":
            old, new = change.old, change.new
            if old is None or new is None or spec(old) != spec(new):
                self._changed[namespace(change.obj)] = change.at
            if new is not None and int_of(status(new).get("disruptionsAllowed")) < 0:
                yield f"{change.key} allows {status(new)['disruptionsAllowed']} disruptions"
        if change.plural == "pods" and _evicted(change):
            calm = state.known(self._changed.get(namespace(change.obj), 0.0), change.at)
            if calm and podlib.ready(change.obj):
                yield from self._judge(change, state)

    def _judge(self, change: Change, state: State) -> Iterator[str]:
        pod = change.obj
        for budget in state.all("poddisruptionbudgets", namespace(pod)):
            matches = selectors.from_object(spec(budget).get("selector")).matches
            if not matches(labels(pod)):
                continue
            healthy = [each for each in _healthy(state, namespace(pod)) if matches(labels(each))]
            left = sum(uid(each) != uid(pod) for each in healthy)
            needed = _needed(budget)
            fits = state.undisturbed(_owner(pod), change.at) and state.undisturbed("nodes", change.at)
            if needed is not None and left < needed and fits:
                yield f"{change.key} was evicted: {left} healthy ones are left, but {name(budget)} wants {needed}"


def _evicted(change: Change) -> bool:
    """Whether this is the first change that the eviction API makes."""
    if change.new is None or change.old is None:
        return False
    return not _target(change.old) and _target(change.new)


def _target(pod: Object) -> bool:
    found = status(pod).get("conditions") or ()
    return any(each["type"] == DISRUPTION and each.get("reason") == "EvictionByEvictionAPI" for each in found)


def _owner(pod: Object) -> str:
    return str((controller_of(pod) or {}).get("uid", ""))


def _healthy(state: State, where: str) -> Iterator[Object]:
    for pod in state.all("pods", where):
        if podlib.ready(pod) and podlib.active(pod) and not _target(pod):
            yield pod


def _needed(budget: Object) -> int | None:
    """Healthy pods that it wants, as its own status has it; None while that is not known."""
    found = status(budget)
    if int_of(found.get("observedGeneration")) != int_of(budget["metadata"].get("generation")):
        return None
    return int_of(found.get("desiredHealthy"))


class Quotas:
    """Creating something never makes a namespace use more than its quota's hard limit of objects."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._since: dict[str, float] = {}

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.plural == "resourcequotas" and (
            change.old is None or change.new is None or spec(change.old) != spec(change.new)
        ):
            self._since[change.key] = change.at
        if self._weather.forecast != CALM:
            self._weather.rough = change.at
        limited = _COUNTED.get(change.plural)
        if limited is None or change.old is not None:
            return
        where = namespace(change.obj)
        if not state.known(self._weather.rough, change.at):
            return  # what it counts anew while its watches are late is too little, as it is with upstream's
        for quota in state.all("resourcequotas", where):
            limit = (status(quota).get("hard") or {}).get(limited)
            key = f"core/resourcequotas/{where}/{name(quota)}"
            if limit is None or not state.known(self._since.get(key, math.inf), change.at):
                continue
            used = 1 + sum(not podlib.terminal(each) for each in state.all(change.plural, where))
            if used > int(limit):
                yield f"{change.key} is number {used}, but {name(quota)} allows {limit}"


class Slices:
    """No slice names a pod or an address twice, and none names more than fit."""

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.plural != "endpointslices" or change.new is None:
            return
        endpoints = change.new.get("endpoints") or ()
        addresses = [each for endpoint in endpoints for each in endpoint.get("addresses") or ()]
        pods = [endpoint["targetRef"]["uid"] for endpoint in endpoints if endpoint.get("targetRef")]
        if len(addresses) != len(set(addresses)) or len(pods) != len(set(pods)):
            yield f"{change.key} names a pod twice"
        if len(endpoints) > 100:
            yield f"{change.key} has {len(endpoints)} endpoints"

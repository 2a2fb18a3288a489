"""spec.affinity.podAffinity and podAntiAffinity: near these pods, far from those, in both directions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.api import selectors
from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from tiphys.scheduler.types import MAX_SCORE, Plugin

Object = Mapping[str, Any]
Namespaces = Mapping[str, Mapping[str, str]]
"""Labels by namespace."""
Domain = tuple[str, str]
"""A topology key and its value."""

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@dataclass(slots=True)
class Neighbours:
    """What the pods that are placed mean for the pod to place."""

    wanted: list[tuple[Object, Counter[Domain]]] = field(default_factory=list)
    """Each required affinity term, with how many matching pods each domain has."""
    lonely: bool = False
    """No pod matches any required term, but the pod itself does: the first of its kind may go anywhere."""
    avoided: set[Domain] = field(default_factory=set)
    """Domains that its own required anti-affinity forbids."""
    closed: set[Domain] = field(default_factory=set)
    """Domains that other pods' required anti-affinity forbids to it."""
    liked: Counter[Domain] = field(default_factory=Counter)
    """Weights of preferences, its own and others'."""


class InterPodAffinity(Plugin):
    name = "InterPodAffinity"
    weight = 2

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> Neighbours:
        out = Neighbours(wanted=[(term, Counter()) for term in _terms(pod, "podAffinity")])
        mine_apart = list(_terms(pod, "podAntiAffinity"))
        spaces = snapshot.namespaces
        for other, node in snapshot.pods() if pod.opinionated else snapshot.opinionated():
            for term, counts in out.wanted:
                if _matches(term, pod, other, spaces):
                    counts.update(_domain(term, node))
            for term in mine_apart:
                if _matches(term, pod, other, spaces):
                    out.avoided.update(_domain(term, node))
            for term in _terms(other, "podAntiAffinity"):
                if _matches(term, other, pod, spaces):
                    out.closed.update(_domain(term, node))
            _weigh(out.liked, pod, other, node, spaces)
        nobody = not any(counts for _, counts in out.wanted)
        out.lonely = nobody and all(_matches(term, pod, pod, spaces) for term, _ in out.wanted)
        return out

    def filter(self, pod: PodInfo, node: NodeInfo, state: Neighbours) -> tuple[str, ...]:
        here = node.labels.items()
        if state.wanted and not _near(node, state):
            return ("node(s) didn't match pod affinity rules",)
        if state.avoided and not state.avoided.isdisjoint(here):
            return ("node(s) didn't match pod anti-affinity rules",)
        if state.closed and not state.closed.isdisjoint(here):
            return ("node(s) didn't satisfy existing pods anti-affinity rules",)
        return ()

    def score(self, pod: PodInfo, node: NodeInfo, state: Neighbours) -> float:
        return float(sum(state.liked[domain] for domain in node.labels.items())) if state.liked else 0.0

    def normalize(self, scores: list[float]) -> list[float]:
        low, high = min(scores, default=0.0), max(scores, default=0.0)
        return [MAX_SCORE * (score - low) / (high - low) if high > low else 0.0 for score in scores]


def _near(node: NodeInfo, state: Neighbours) -> bool:
    for term, counts in state.wanted:
        value = node.labels.get(term["topologyKey"])
        if value is None or not (state.lonely or counts[term["topologyKey"], value]):
            return False
    return True


def _terms(pod: PodInfo, which: str) -> Iterator[Object]:
    yield from ((pod.pod["spec"].get("affinity") or {}).get(which) or {}).get(REQUIRED) or ()


def _preferences(pod: PodInfo) -> Iterator[tuple[Object, int]]:
    affinity = pod.pod["spec"].get("affinity") or {}
    for which, sign in (("podAffinity", 1), ("podAntiAffinity", -1)):
        for item in (affinity.get(which) or {}).get(PREFERRED) or ():
            yield item["podAffinityTerm"], sign * item["weight"]


def _weigh(liked: Counter[Domain], pod: PodInfo, other: PodInfo, node: NodeInfo, spaces: Namespaces) -> None:
    """Its preferences about `other`, those of `other` about it, and (weight 1) what `other` requires of it."""
    for term, weight in _preferences(pod):
        if _matches(term, pod, other, spaces):
            for domain in _domain(term, node):
                liked[domain] += weight
    for term, weight in (*_preferences(other), *((term, 1) for term in _terms(other, "podAffinity"))):
        if _matches(term, other, pod, spaces):
            for domain in _domain(term, node):
                liked[domain] += weight


def _domain(term: Object, node: NodeInfo) -> tuple[Domain, ...]:
    key = term["topologyKey"]
    value = node.labels.get(key)
    return () if value is None else ((key, value),)


def _matches(term: Object, holder: PodInfo, candidate: PodInfo, spaces: Namespaces) -> bool:
    """Whether `candidate` is one of the pods that a term of `holder` speaks of."""
    if not _in_namespace(term, holder, candidate, spaces):
        return False
    if not selectors.from_object(term.get("labelSelector")).matches(candidate.labels):
        return False
    same = (term.get("matchLabelKeys") or (), term.get("mismatchLabelKeys") or ())
    return all(candidate.labels.get(key) == holder.labels.get(key) for key in same[0]) and all(
        candidate.labels.get(key) != holder.labels.get(key) for key in same[1]
    )


def _in_namespace(term: Object, holder: PodInfo, candidate: PodInfo, spaces: Namespaces) -> bool:
    """The term's namespaces and those its namespaceSelector selects; the holder's own without either."""
    selector = term.get("namespaceSelector")
    names = term.get("namespaces") or (() if selector is not None else (holder.namespace,))
    if candidate.namespace in names:
        return True
    return selector is not None and selectors.from_object(selector).matches(spaces.get(candidate.namespace, {}))

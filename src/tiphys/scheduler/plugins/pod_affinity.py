"""spec.affinity.podAffinity and podAntiAffinity: near these pods, far from those, in both directions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from tiphys.scheduler.terms import Term
from tiphys.scheduler.types import MAX_SCORE, SILENT, Change, Plugin

Domain = tuple[str, str]
"""A topology key and its value."""

_APART = "node(s) didn't match pod anti-affinity rules"
_CLOSED = "node(s) didn't satisfy existing pods anti-affinity rules"


@dataclass(slots=True)
class Neighbours:
    """What the pods that are placed mean for the pod to place."""

    wanted: tuple[Term, ...] = ()
    """Its required affinity terms."""
    near: set[Domain] = field(default_factory=set)
    """Where pods are that all the required terms mean."""
    lonely: bool = False
    """Nobody is wanted by all the terms, but the pod itself would be: the first of its kind may go anywhere."""
    avoided: set[Domain] = field(default_factory=set)
    """Domains that its own required anti-affinity forbids."""
    closed: set[Domain] = field(default_factory=set)
    """Domains that other pods' required anti-affinity forbids to it."""
    liked: Counter[Domain] = field(default_factory=Counter)
    """Weights of preferences, its own and others'."""

    @property
    def empty(self) -> bool:
        return not (self.wanted or self.avoided or self.closed or self.liked)


class InterPodAffinity(Plugin):
    name = "InterPodAffinity"
    weight = 2
    helped_by = Change.NODE | Change.ROOM | Change.NEIGHBOURS

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> Any:
        own, spaces = pod.affinity, snapshot.namespaces
        out = Neighbours(wanted=own.near)
        for other, node in snapshot.pods() if pod.opinionated else snapshot.opinionated():
            if own.near and all(term.matches(other.pod, spaces) for term in own.near):
                out.near.update(_domains(own.near, node))
            out.avoided.update(_domains((term for term in own.apart if term.matches(other.pod, spaces)), node))
            for term in own.preferred:
                if term.matches(other.pod, spaces):
                    _like(out.liked, term, node, term.weight)
            if other.opinionated:
                _hear(out, other, node, pod, snapshot)
        out.lonely = not out.near and all(term.matches(pod.pod, spaces) for term in own.near)
        return SILENT if out.empty else out

    def filter(self, pod: PodInfo, node: NodeInfo, state: Neighbours) -> tuple[str, ...]:
        here = node.labels.items()
        if state.wanted and not _near(node, state):
            return ("node(s) didn't match pod affinity rules",)
        if state.avoided and not state.avoided.isdisjoint(here):
            return (_APART,)
        if state.closed and not state.closed.isdisjoint(here):
            return (_CLOSED,)
        return ()

    def resolvable(self, pod: PodInfo, node: NodeInfo, reasons: tuple[str, ...]) -> bool:
        return reasons[0] in (_APART, _CLOSED)

    def score(self, pod: PodInfo, node: NodeInfo, state: Neighbours) -> float:
        return float(sum(state.liked[domain] for domain in node.labels.items())) if state.liked else 0.0

    def normalize(self, scores: list[float]) -> list[float]:
        low, high = min(scores, default=0.0), max(scores, default=0.0)
        return [MAX_SCORE * (score - low) / (high - low) if high > low else 0.0 for score in scores]


def _near(node: NodeInfo, state: Neighbours) -> bool:
    for term in state.wanted:
        value = node.labels.get(term.topology)
        if value is None or not (state.lonely or (term.topology, value) in state.near):
            return False
    return True


def _hear(out: Neighbours, other: PodInfo, node: NodeInfo, pod: PodInfo, snapshot: Snapshot) -> None:
    """What `other` on `node` says about `pod`: what it forbids, prefers, and (weight 1) what it requires."""
    terms, spaces = other.affinity, snapshot.namespaces
    out.closed.update(_domains((term for term in terms.apart if term.matches(pod.pod, spaces)), node))
    for term in (*terms.preferred, *terms.near):
        if term.matches(pod.pod, spaces):
            _like(out.liked, term, node, term.weight or 1)


def _like(liked: Counter[Domain], term: Term, node: NodeInfo, weight: int) -> None:
    value = node.labels.get(term.topology)
    if value is not None:
        liked[term.topology, value] += weight


def _domains(terms: Iterable[Term], node: NodeInfo) -> list[Domain]:
    keys = (term.topology for term in terms)
    return [(key, node.labels[key]) for key in keys if key in node.labels]

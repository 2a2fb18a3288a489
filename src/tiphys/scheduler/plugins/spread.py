"""spec.topologySpreadConstraints: pods alike spread evenly over zones, hosts or whatever label a constraint names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.api import selectors
from tiphys.api.selectors import LabelSelector
from tiphys.scheduler.plugins.node import selects
from tiphys.scheduler.plugins.taints import untolerated
from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from tiphys.scheduler.terms import with_label_keys
from tiphys.scheduler.types import MAX_SCORE, SILENT, Change, Plugin

Object = Mapping[str, Any]

_SKEWED = "node(s) didn't match pod topology spread constraints"
_UNLABELLED = f"{_SKEWED} (missing required label)"
_IGNORED = -1.0
"""Score of nodes without the labels: less than any other, and 0 once normalized."""


@dataclass(slots=True)
class Domains:
    """One constraint and how many matching pods each value of its topology key has."""

    constraint: Object
    selector: LabelSelector
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return str(self.constraint["topologyKey"])

    @property
    def fewest(self) -> int:
        """The global minimum; with fewer domains than minDomains it counts as 0."""
        if len(self.counts) < (self.constraint.get("minDomains") or 1):
            return 0
        return min(self.counts.values(), default=0)


@dataclass(slots=True)
class Spread:
    """The constraints that must hold, each with the most pods that a place may have, and those that should hold."""

    hard: list[tuple[Domains, int]]
    soft: list[Domains]


class PodTopologySpread(Plugin):
    name = "PodTopologySpread"
    weight = 2
    helped_by = Change.NODE | Change.ROOM | Change.NEIGHBOURS

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> Any:
        constraints = pod.pod["spec"].get("topologySpreadConstraints")
        if not constraints:
            return SILENT
        hard = _count([each for each in constraints if each.get("whenUnsatisfiable") == "DoNotSchedule"], pod, snapshot)
        soft = _count([each for each in constraints if each.get("whenUnsatisfiable") != "DoNotSchedule"], pod, snapshot)
        return Spread([(domains, _limit(domains, pod)) for domains in hard], soft)

    def filter(self, pod: PodInfo, node: NodeInfo, state: Spread) -> tuple[str, ...]:
        for domains, limit in state.hard:
            value = node.labels.get(domains.key)
            if value is None:
                return (_UNLABELLED,)
            if domains.counts.get(value, 0) > limit:
                return (_SKEWED,)
        return ()

    def resolvable(self, pod: PodInfo, node: NodeInfo, reasons: tuple[str, ...]) -> bool:
        return reasons[0] == _SKEWED

    def score(self, pod: PodInfo, node: NodeInfo, state: Spread) -> float:
        total = 0.0
        for domains in state.soft:
            value = node.labels.get(domains.key)
            if value is None:
                return _IGNORED
            weight = math.log(len(domains.counts) + 2)
            total += domains.counts.get(value, 0) * weight + domains.constraint["maxSkew"] - 1
        return total

    def normalize(self, scores: list[float]) -> list[float]:
        counted = [score for score in scores if score != _IGNORED]
        low, high = min(counted, default=0.0), max(counted, default=0.0)
        if not high:
            return [0.0 if score == _IGNORED else float(MAX_SCORE) for score in scores]
        return [0.0 if score == _IGNORED else MAX_SCORE * (high + low - score) / high for score in scores]


def _limit(domains: Domains, pod: PodInfo) -> int:
    """With how many matching pods a place may still take `pod`."""
    return int(domains.constraint["maxSkew"]) + domains.fewest - domains.selector.matches(pod.labels)


def _count(constraints: Sequence[Object], pod: PodInfo, snapshot: Snapshot) -> list[Domains]:
    """How many of the pods alike are where, on the nodes that have the labels of all the constraints."""
    out = [Domains(constraint, _selector(constraint, pod)) for constraint in constraints]
    for node in snapshot.nodes() if out else ():
        if any(domains.key not in node.labels for domains in out):
            continue
        for domains in out:
            if _eligible(domains.constraint, pod, node):
                value = node.labels[domains.key]
                domains.counts[value] = domains.counts.get(value, 0) + _alike(domains, pod, node)
    return out


def _selector(constraint: Object, pod: PodInfo) -> LabelSelector:
    selector = selectors.from_object(constraint.get("labelSelector"))
    return with_label_keys(selector, pod.pod, constraint.get("matchLabelKeys") or ())


def _alike(domains: Domains, pod: PodInfo, node: NodeInfo) -> int:
    return sum(
        other.namespace == pod.namespace
        and "deletionTimestamp" not in other.pod["metadata"]
        and domains.selector.matches(other.labels)
        for other in node.pods.values()
    )


def _eligible(constraint: Object, pod: PodInfo, node: NodeInfo) -> bool:
    """nodeAffinityPolicy (Honor by default) and nodeTaintsPolicy (Ignore by default)."""
    if (constraint.get("nodeAffinityPolicy") or "Honor") == "Honor" and not selects(pod, node):
        return False
    honor_taints = constraint.get("nodeTaintsPolicy") == "Honor"
    return not (honor_taints and untolerated(pod, node.taints, ("NoSchedule", "NoExecute")))

"""spec.topologySpreadConstraints: pods alike spread evenly over zones, hosts or whatever label a constraint names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api import selectors
from tiphys.scheduler.plugins.node import NodeAffinity
from tiphys.scheduler.plugins.taints import untolerated
from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from tiphys.scheduler.types import Plugin, scale_down

Object = Mapping[str, Any]


@dataclass(slots=True)
class Domains:
    """One constraint and how many matching pods each value of its topology key has."""

    constraint: Object
    counts: dict[str, int]
    self_matches: bool

    @property
    def key(self) -> str:
        return str(self.constraint["topologyKey"])

    @property
    def fewest(self) -> int:
        """The global minimum; with fewer domains than minDomains it counts as 0."""
        if len(self.counts) < (self.constraint.get("minDomains") or 1):
            return 0
        return min(self.counts.values(), default=0)


class PodTopologySpread(Plugin):
    name = "PodTopologySpread"
    weight = 2

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> list[Domains]:
        constraints = pod.pod["spec"].get("topologySpreadConstraints") or ()
        return [_count(constraint, pod, snapshot) for constraint in constraints]

    def filter(self, pod: PodInfo, node: NodeInfo, state: list[Domains]) -> tuple[str, ...]:
        for domains in state:
            if domains.constraint.get("whenUnsatisfiable") != "DoNotSchedule":
                continue
            value = node.labels.get(domains.key)
            if value is None:
                return ("node(s) didn't match pod topology spread constraints (missing required label)",)
            skew = domains.counts.get(value, 0) + domains.self_matches - domains.fewest
            if skew > domains.constraint["maxSkew"]:
                return ("node(s) didn't match pod topology spread constraints",)
        return ()

    def score(self, pod: PodInfo, node: NodeInfo, state: list[Domains]) -> float:
        total = 0.0
        for domains in state:
            value = node.labels.get(domains.key)
            if domains.constraint.get("whenUnsatisfiable") == "ScheduleAnyway" and value is not None:
                weight = math.log(len(domains.counts) + 2)
                total += domains.counts.get(value, 0) * weight + domains.constraint["maxSkew"] - 1
        return total

    def normalize(self, scores: list[float]) -> list[float]:
        return scale_down(scores)


def _count(constraint: Object, pod: PodInfo, snapshot: Snapshot) -> Domains:
    selector = selectors.from_object(constraint.get("labelSelector"))
    same = {key: pod.labels[key] for key in constraint.get("matchLabelKeys") or () if key in pod.labels}

    def alike(other: PodInfo) -> bool:
        return selector.matches(other.labels) and all(other.labels.get(key) == same[key] for key in same)

    counts: dict[str, int] = {}
    for node in snapshot.nodes():
        value = node.labels.get(constraint["topologyKey"])
        if value is None or not _eligible(constraint, pod, node):
            continue
        here = sum(
            1
            for other in node.pods.values()
            if other.namespace == pod.namespace and "deletionTimestamp" not in other.pod["metadata"] and alike(other)
        )
        counts[value] = counts.get(value, 0) + here
    return Domains(constraint, counts, alike(pod))


def _eligible(constraint: Object, pod: PodInfo, node: NodeInfo) -> bool:
    """nodeAffinityPolicy (Honor by default) and nodeTaintsPolicy (Ignore by default)."""
    affinity = NodeAffinity()
    if (constraint.get("nodeAffinityPolicy") or "Honor") == "Honor" and affinity.filter(
        pod, node, affinity.prepare(pod, Snapshot())
    ):
        return False
    honor_taints = constraint.get("nodeTaintsPolicy") == "Honor"
    return not (honor_taints and untolerated(pod, node.taints, ("NoSchedule", "NoExecute")))

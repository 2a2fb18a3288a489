"""One pod, one snapshot -> one node, or the reasons why not. No I/O, no clock.

`decide` looks at every node. `Decider` gives the same answers with less work: as long as no plugin's verdict on a
node depends on other nodes, it keeps a `Ranking` for each category of pods and looks again only at nodes that changed.

Messages are upstream's: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`, and then whether
preemption would help. Where it would, upstream preempts; we say that it is not supported.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.scheduler.ranking import Active, Ranking, Refusal, refusal
from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from tiphys.scheduler.types import SILENT, Change, Plugin

NO_NODES = "no nodes available to schedule pods"
_REMEMBERED = 200_000
"""Verdicts (of a category of pods on a node) kept in mind, of some 200 bytes each."""
_RANKING_FROM = 32
"""Nodes; below that a look at all of them costs no more."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`node` is "" when the pod fits nowhere; `message` then says why, and `helped_by` what may change that."""

    node: str = ""
    message: str = ""
    helped_by: Change = Change.NODE


def decide(pod: PodInfo, snapshot: Snapshot, plugins: Sequence[Plugin], turn: int = 0) -> Decision:
    """The best node for `pod`. Among equally good ones `turn` picks, so a run of like pods goes round."""
    return _decide(pod, snapshot, prepare(pod, snapshot, plugins), turn)


def prepare(pod: PodInfo, snapshot: Snapshot, plugins: Iterable[Plugin]) -> Active:
    """The plugins that have something to say about `pod`, each with what it worked out."""
    states = ((plugin, plugin.prepare(pod, snapshot)) for plugin in plugins)
    return [(plugin, state) for plugin, state in states if state is not SILENT]


def _decide(pod: PodInfo, snapshot: Snapshot, active: Active, turn: int) -> Decision:
    if refused_by := _refused(pod, active):
        return nowhere(snapshot, *refused_by)
    feasible: list[NodeInfo] = []
    refusals: dict[str, Refusal] = {}
    left_out = _left_out(pod, active)
    for node in _candidates(pod, snapshot, active):
        refused = refusal(pod, node, active)
        if refused is None:
            feasible.append(node)
        else:
            refusals[node.name] = refused
    if not feasible:
        return failure(pod, snapshot, refusals, left_out)
    return Decision(node=_best(pod, feasible, active, turn).name)


def _candidates(pod: PodInfo, snapshot: Snapshot, active: Active) -> Iterable[NodeInfo]:
    limits = [names for names in (plugin.only(pod, state) for plugin, state in active) if names is not None]
    if not limits:
        return snapshot.nodes()
    found = (snapshot.node(name) for name in sorted(frozenset.intersection(*limits)))
    return [node for node in found if node is not None]


def _left_out(pod: PodInfo, active: Active) -> str:
    """The reason for nodes that no plugin was asked about."""
    limiting = sorted(plugin.name for plugin, state in active if plugin.only(pod, state) is not None)
    return f"node(s) didn't satisfy plugin(s) [{' '.join(limiting)}]"


def _best(pod: PodInfo, nodes: Sequence[NodeInfo], active: Active, turn: int) -> NodeInfo:
    if len(nodes) == 1:
        return nodes[0]
    totals = [0.0] * len(nodes)
    for plugin, state in active:
        if plugin.weight:
            scores = plugin.normalize([plugin.score(pod, node, state) for node in nodes])
            totals = [total + plugin.weight * score for total, score in zip(totals, scores, strict=True)]
    top = max(totals)
    best = [node for node, total in zip(nodes, totals, strict=True) if total >= top - 1e-6]
    return best[turn % len(best)]


def _refused(pod: PodInfo, active: Active) -> tuple[Plugin, str] | None:
    """The first plugin to which no node will do, and why."""
    told = ((plugin, plugin.refuse(pod, state)) for plugin, state in active)
    return next(((plugin, reason) for plugin, reason in told if reason), None)


def nowhere(snapshot: Snapshot, plugin: Plugin, reason: str) -> Decision:
    """That no node was looked at, and why."""
    if not len(snapshot):
        return Decision(message=NO_NODES)
    nodes = len(snapshot)
    useless = unavailable(nodes, {"Preemption is not helpful for scheduling": nodes})
    message = f"0/{nodes} nodes are available: {reason}. no new claims to deallocate, preemption: {useless}"
    return Decision(message=message, helped_by=Change.NODE | plugin.helped_by)


def failure(pod: PodInfo, snapshot: Snapshot, refusals: Mapping[str, Refusal], left_out: str) -> Decision:
    """That no node fits, and why."""
    if not len(snapshot):
        return Decision(message=NO_NODES)
    reasons = Counter(reason for refused in refusals.values() for reason in refused.reasons)
    if absent := len(snapshot) - len(refusals):
        reasons[left_out] += absent
    helped_by = Change.NODE
    for plugin in {refused.plugin for refused in refusals.values()}:
        helped_by |= plugin.helped_by
    # the first words after the reasons are those of dynamic resources, which have a say before preemption
    message = f"{unavailable(len(snapshot), reasons)} no new claims to deallocate, preemption: "
    return Decision(message=message + _preemption(pod, snapshot, refusals), helped_by=helped_by)


def _preemption(pod: PodInfo, snapshot: Snapshot, refusals: Mapping[str, Refusal]) -> str:
    """Why no pod makes room for this one."""
    if pod.pod["spec"].get("preemptionPolicy") == "Never":
        return "not eligible due to preemptionPolicy=Never."
    reasons: Counter[str] = Counter()
    for node in snapshot.nodes():
        refused = refusals.get(node.name)
        if refused is None or not refused.plugin.resolvable(pod, node, refused.reasons):
            reasons["Preemption is not helpful for scheduling"] += 1
        elif any(other.priority < pod.priority for other in node.pods.values()):
            reasons["Preemption is not supported"] += 1
        else:
            reasons["No preemption victims found for incoming pod"] += 1
    return unavailable(len(snapshot), reasons)


def unavailable(nodes: int, reasons: Mapping[str, int]) -> str:
    """Upstream's sentence for so many nodes and reasons; these are sorted as texts."""
    parts = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return f"0/{nodes} nodes are available: {parts}."


class Decider:
    """Decides pod after pod on one snapshot that goes on changing."""

    def __init__(self, snapshot: Snapshot, plugins: Sequence[Plugin]) -> None:
        self._snapshot = snapshot
        self._plugins = tuple(plugins)
        self._rankings: OrderedDict[Hashable, Ranking] = OrderedDict()
        self._turn = 0

    def decide(self, pod: PodInfo) -> Decision:
        """As the function `decide`, going round among equally good nodes."""
        active = prepare(pod, self._snapshot, self._plugins)
        ranking = self._ranking(pod, active)
        if ranking is None:
            self._turn += 1
            return _decide(pod, self._snapshot, active, self._turn)
        ranking.update(self._snapshot)
        best = ranking.best()
        return Decision(node=best) if best else failure(pod, self._snapshot, ranking.refusals, "")

    def _ranking(self, pod: PodInfo, active: Active) -> Ranking | None:
        """The one for pods like this, None if nodes cannot be ranked each for itself."""
        if len(self._snapshot) < _RANKING_FROM or any(plugin.only(pod, state) for plugin, state in active):
            return None
        rests: list[tuple[str, Any]] = []
        for plugin, state in active:
            rest = plugin.local(pod, state)
            if rest is None:
                return None
            rests.append((plugin.name, rest))
        key = (pod.category, tuple(rests))
        ranking = self._rankings.get(key)
        if ranking is None:
            ranking = self._rankings[key] = Ranking(pod, active)
            while len(self._rankings) > 1 + _REMEMBERED // len(self._snapshot):
                self._rankings.popitem(last=False)
        self._rankings.move_to_end(key)
        return ranking

"""One pod, one snapshot -> one node, or the reasons why not. Pure.

Messages are upstream's: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from tiphys.scheduler.types import Plugin


@dataclass(frozen=True, slots=True)
class Decision:
    """`node` is "" when the pod fits nowhere; `message` says why, `plugins` who refused."""

    node: str = ""
    message: str = ""
    plugins: frozenset[str] = field(default_factory=frozenset)


def decide(pod: PodInfo, snapshot: Snapshot, plugins: Sequence[Plugin], turn: int = 0) -> Decision:
    """The best node for `pod`. Among equally good ones `turn` picks, so a run of like pods goes round."""
    states = [plugin.prepare(pod, snapshot) for plugin in plugins]
    nodes = list(snapshot.nodes())
    if not nodes:
        return Decision(message="no nodes available to schedule pods")
    feasible: list[NodeInfo] = []
    reasons: Counter[str] = Counter()
    refusers: set[str] = set()
    for node in nodes:
        refusal = _refusal(pod, node, plugins, states)
        if refusal is None:
            feasible.append(node)
        else:
            refusers.add(refusal[0])
            reasons.update(refusal[1])
    if not feasible:
        return Decision(message=_message(len(nodes), reasons), plugins=frozenset(refusers))
    return Decision(node=_best(pod, feasible, plugins, states, turn).name)


def _refusal(
    pod: PodInfo, node: NodeInfo, plugins: Sequence[Plugin], states: Sequence[Any]
) -> tuple[str, tuple[str, ...]] | None:
    for plugin, state in zip(plugins, states, strict=True):
        reasons = plugin.filter(pod, node, state)
        if reasons:
            return plugin.name, reasons
    return None


def _best(
    pod: PodInfo, nodes: Sequence[NodeInfo], plugins: Sequence[Plugin], states: Sequence[Any], turn: int
) -> NodeInfo:
    if len(nodes) == 1:
        return nodes[0]
    totals = [0.0] * len(nodes)
    for plugin, state in zip(plugins, states, strict=True):
        if plugin.weight:
            scores = plugin.normalize([plugin.score(pod, node, state) for node in nodes])
            totals = [total + plugin.weight * score for total, score in zip(totals, scores, strict=True)]
    top = max(totals)
    best = [node for node, total in zip(nodes, totals, strict=True) if total >= top - 1e-9]
    return best[turn % len(best)]


def _message(nodes: int, reasons: Counter[str]) -> str:
    parts = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return f"0/{nodes} nodes are available: {parts}."

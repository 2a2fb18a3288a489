"""All nodes in the order in which pods of one category like them, kept up to date node by node.

Placing a pod changes one node, so the next decision about a like pod looks at one node instead of all. It is a heap
with lazy deletion: a node that changed gets a new entry, old ones are dropped when they come up.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from tiphys.scheduler.types import Plugin

Active = list[tuple[Plugin, Any]]
"""Plugins that have something to say about a pod, each with its state."""
_Entry = tuple[float, int, str]
"""The score turned round, a serial number, the node's name."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Who refused a node, and why."""

    plugin: Plugin
    reasons: tuple[str, ...]


def refusal(pod: PodInfo, node: NodeInfo, active: Active) -> Refusal | None:
    """The first plugin that refuses the node; None if the pod fits."""
    for plugin, state in active:
        reasons = plugin.filter(pod, node, state)
        if reasons:
            return Refusal(plugin, reasons)
    return None


class Ranking:
    """`pod` stands for all of its category; every plugin in `active` is local."""

    def __init__(self, pod: PodInfo, active: Active) -> None:
        self._pod = pod
        self._active = active
        self._scoring = [(plugin, state) for plugin, state in active if plugin.weight]
        self._version = 0
        self._serial = 0
        self._current: dict[str, _Entry] = {}
        self._heap: list[_Entry] = []
        self.refusals: dict[str, Refusal] = {}
        """Of the nodes that do not fit."""

    def update(self, snapshot: Snapshot) -> None:
        """Look at the nodes that have changed since the last time."""
        for name in [*snapshot.changed_since(self._version)][::-1]:
            self._current.pop(name, None)
            self.refusals.pop(name, None)
            node = snapshot.node(name)
            if node is None:
                continue
            refused = refusal(self._pod, node, self._active)
            if refused is None:
                self._push(node)
            else:
                self.refusals[name] = refused
        self._version = snapshot.version
        if len(self._heap) > 2 * len(self._current) + 64:
            self._heap = sorted(self._current.values())

    def best(self) -> str:
        """The first node, "" if none fits. Of equally good ones, the one that has been so for longest."""
        while self._heap:
            entry = self._heap[0]
            if self._current.get(entry[2]) is entry:
                return entry[2]
            heapq.heappop(self._heap)
        return ""

    def _push(self, node: NodeInfo) -> None:
        score = sum(plugin.weight * plugin.score(self._pod, node, state) for plugin, state in self._scoring)
        self._serial += 1
        entry = (-round(score, 6), self._serial, node.name)
        self._current[node.name] = entry
        heapq.heappush(self._heap, entry)

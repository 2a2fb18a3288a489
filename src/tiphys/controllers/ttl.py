"""How long kubelets may keep secrets and config maps before they ask again: an annotation of each node, by the number
of nodes."""

from __future__ import annotations

from tiphys.client.reconcile import Result
from tiphys.client.resources import NODES
from tiphys.client.types import STRATEGIC_PATCH, Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import annotations_of, name

ANNOTATION = "node.alpha.kubernetes.io/ttl"

STEPS = ((0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, 1 << 31, 300))
"""Nodes at least, nodes at most, seconds. They overlap, so that a node more or less does not change every node."""


def step_for(step: int, nodes: int) -> int:
    """The step after the number of nodes changed."""
    while nodes > STEPS[step][1]:
        step += 1
    while nodes < STEPS[step][0]:
        step -= 1
    return step


def seconds_of(node: Object) -> int | None:
    """What the node has; None for nothing, or nothing that could be read."""
    try:
        return int(annotations_of(node)[ANNOTATION])
    except (KeyError, ValueError):
        return None


class TtlController(Controller):
    """Keys are nodes. When the size reaches another step, each node follows at its next change, as upstream's do: the
    kubelets' status updates bring that about, and a large cluster is not written to all at once."""

    name = "ttl-controller"
    account = "ttl-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._step = self._count = 0
        self._nodes = self.watch(NODES)
        self._nodes.subscribe(self._node_changed)

    async def reconcile(self, key: str) -> Result | None:
        node = self._nodes.get("", key)
        wanted = STEPS[self._step][2]
        if node is not None and seconds_of(node) != wanted:
            patch = {"metadata": {"annotations": {ANNOTATION: str(wanted)}}}
            await self.client.patch(NODES, key, patch, type=STRATEGIC_PATCH)
        return None

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        self._count += (old is None) - (new is None)
        self._step = step_for(self._step, self._count)
        if new is not None and seconds_of(new) != STEPS[self._step][2]:
            self.queue.add(name(new))

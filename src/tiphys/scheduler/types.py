"""The seam between the scheduler and its plugins: pure functions of a pod, a node and what was prepared."""

from __future__ import annotations

from typing import Any

from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot

MAX_SCORE = 100


class Plugin:
    """One concern of a placement; override what it has to say. Names and messages are upstream's."""

    name: str = ""
    weight: int = 0
    """How much its score counts; 0 for plugins that only filter."""

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> Any:
        """Work out once for this pod what `filter` and `score` need; handed to them as `state`."""
        return None

    def filter(self, pod: PodInfo, node: NodeInfo, state: Any) -> tuple[str, ...]:
        """Why the pod cannot go there; () if it can."""
        return ()

    def score(self, pod: PodInfo, node: NodeInfo, state: Any) -> float:
        """How good the node is; any scale, see `normalize`."""
        return 0.0

    def normalize(self, scores: list[float]) -> list[float]:
        """Scores of all nodes that passed, brought to 0..MAX_SCORE."""
        return scores


def scale_up(scores: list[float]) -> list[float]:
    """The greatest becomes MAX_SCORE, the others in proportion; all 0 stays 0."""
    top = max(scores, default=0.0)
    return [score * MAX_SCORE / top for score in scores] if top > 0 else [0.0 for _ in scores]


def scale_down(scores: list[float]) -> list[float]:
    """The greatest becomes 0, nothing becomes MAX_SCORE: for counts of bad things."""
    top = max(scores, default=0.0)
    return [MAX_SCORE - score * MAX_SCORE / top if top > 0 else float(MAX_SCORE) for score in scores]

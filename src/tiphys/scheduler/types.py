"""The seam between the scheduler and its plugins: pure functions of a pod, a node and what was prepared."""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum, Flag, auto
from typing import Any, Final

from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot

MAX_SCORE = 100


class Change(Flag):
    """What happened to the cluster, as far as it may help a pod that fitted nowhere."""

    NODE = auto()
    """A node came, or changed in what decides whether pods fit."""
    ROOM = auto()
    """A pod went, or asks for less than before."""
    NEIGHBOURS = auto()
    """A pod came to a node, or labels of pods or namespaces changed."""
    STORAGE = auto()
    """A claim, a volume or a StorageClass came, changed or went."""


class Silent(Enum):
    """See SILENT."""

    SILENT = auto()


SILENT: Final = Silent.SILENT
"""What `Plugin.prepare` returns when the plugin neither refuses nor prefers any node for this pod now."""


class Plugin:
    """One concern of a placement; override what it has to say. Names and messages are upstream's."""

    name: str = ""
    weight: int = 0
    """How much its score counts; 0 for plugins that only filter."""
    helped_by: Change = Change.NODE
    """After which changes a pod that this plugin refused is worth another try."""

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> Any:
        """Work out once for this pod what the other methods need, handed to them as `state`; SILENT leaves it out."""
        return None

    def refuse(self, pod: PodInfo, state: Any) -> str:
        """Why no node at all can come into question; "" if some may."""
        return ""

    def local(self, pod: PodInfo, state: Any) -> Hashable | None:
        """On what, besides the node itself and the pod's class, its verdicts rest; they are kept for as long as that
        stays equal. None if other nodes or pods elsewhere matter: then every pod is looked at afresh."""
        return None

    def only(self, pod: PodInfo, state: Any) -> frozenset[str] | None:
        """Names of the only nodes that can come into question; None for no such limit."""
        return None

    def filter(self, pod: PodInfo, node: NodeInfo, state: Any) -> tuple[str, ...]:
        """Why the pod cannot go there; () if it can."""
        return ()

    def resolvable(self, pod: PodInfo, node: NodeInfo, reasons: tuple[str, ...]) -> bool:
        """Whether fewer pods on the node could change the refusal for these reasons."""
        return False

    def score(self, pod: PodInfo, node: NodeInfo, state: Any) -> float:
        """How good the node is; any scale, see `normalize`."""
        return 0.0

    def normalize(self, scores: list[float]) -> list[float]:
        """Scores of all nodes that passed, brought to 0..MAX_SCORE. A `local` plugin's are so already."""
        return scores


def scale_up(scores: list[float]) -> list[float]:
    """The greatest becomes MAX_SCORE, the others in proportion; all 0 stays 0."""
    top = max(scores, default=0.0)
    return [score * MAX_SCORE / top for score in scores] if top > 0 else [0.0 for _ in scores]


def scale_down(scores: list[float]) -> list[float]:
    """The greatest becomes 0, nothing becomes MAX_SCORE: for counts of bad things."""
    top = max(scores, default=0.0)
    return [MAX_SCORE - score * MAX_SCORE / top if top > 0 else float(MAX_SCORE) for score in scores]

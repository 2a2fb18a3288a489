"""What the pod says about the node itself: its name, its labels, ports of it that must be free."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from tiphys.scheduler.plugins.taints import tolerates
from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from tiphys.scheduler.types import SILENT, Change, Plugin, scale_up

Object = Mapping[str, Any]
ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared with, never bound
UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


class NodeName(Plugin):
    name = "NodeName"

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> Any:
        return None if pod.pod["spec"].get("nodeName") else SILENT

    def local(self, pod: PodInfo, state: Any) -> Hashable | None:
        return ()

    def filter(self, pod: PodInfo, node: NodeInfo, state: Any) -> tuple[str, ...]:
        wanted = pod.pod["spec"].get("nodeName")
        return ("node(s) didn't match the requested node name",) if wanted and wanted != node.name else ()


class NodeUnschedulable(Plugin):
    name = "NodeUnschedulable"

    def local(self, pod: PodInfo, state: Any) -> Hashable | None:
        return ()

    def filter(self, pod: PodInfo, node: NodeInfo, state: Any) -> tuple[str, ...]:
        if not (node.node.get("spec") or {}).get("unschedulable"):
            return ()
        tolerations = pod.pod["spec"].get("tolerations") or ()
        if any(tolerates(toleration, UNSCHEDULABLE) for toleration in tolerations):
            return ()
        return ("node(s) were unschedulable",)


class NodePorts(Plugin):
    name = "NodePorts"
    helped_by = Change.NODE | Change.ROOM

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> Any:
        return None if pod.ports else SILENT

    def local(self, pod: PodInfo, state: Any) -> Hashable | None:
        return ()

    def resolvable(self, pod: PodInfo, node: NodeInfo, reasons: tuple[str, ...]) -> bool:
        return True

    def filter(self, pod: PodInfo, node: NodeInfo, state: Any) -> tuple[str, ...]:
        taken = [port for other in node.pods.values() for port in other.ports]
        if any(_collide(mine, theirs) for mine in pod.ports for theirs in taken):
            return ("node(s) didn't have free ports for the requested pod ports",)
        return ()


def _collide(one: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    same_address = one[0] == other[0] or one[0] in ANY_ADDRESS or other[0] in ANY_ADDRESS
    return same_address and one[1:] == other[1:]


class NodeAffinity(Plugin):
    """spec.nodeSelector and spec.affinity.nodeAffinity."""

    name = "NodeAffinity"
    weight = 2

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> Any:
        spec = pod.pod["spec"]
        affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
        return affinity if affinity or spec.get("nodeSelector") else SILENT

    def local(self, pod: PodInfo, state: Object) -> Hashable | None:
        return None if state.get("preferredDuringSchedulingIgnoredDuringExecution") else ()

    def only(self, pod: PodInfo, state: Object) -> frozenset[str] | None:
        """Nodes that its terms name, as those of DaemonSets' pods do."""
        required = state.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
        names: set[str] = set()
        for term in required.get("nodeSelectorTerms") or ():
            named = [set(item["values"]) for item in term.get("matchFields") or () if _names_nodes(item)]
            if not named:
                return None
            names |= set.intersection(*named)
        return frozenset(names) if names else None

    def filter(self, pod: PodInfo, node: NodeInfo, state: Object) -> tuple[str, ...]:
        return () if selects(pod, node) else ("node(s) didn't match Pod's node affinity/selector",)

    def score(self, pod: PodInfo, node: NodeInfo, state: Object) -> float:
        preferred = state.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        return float(sum(item["weight"] for item in preferred if matches_term(item.get("preference") or {}, node.node)))

    def normalize(self, scores: list[float]) -> list[float]:
        return scale_up(scores)


def selects(pod: PodInfo, node: NodeInfo) -> bool:
    """Whether the pod's nodeSelector and required node affinity select the node."""
    spec = pod.pod["spec"]
    wanted = spec.get("nodeSelector")
    if wanted and not all(node.labels.get(key) == value for key, value in wanted.items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = (required or {}).get("nodeSelectorTerms") or ()
    return required is None or any(matches_term(term, node.node) for term in terms)


def _names_nodes(requirement: Object) -> bool:
    return bool(requirement["key"] == "metadata.name" and requirement["operator"] == "In")


def matches_term(term: Object, node: Object) -> bool:
    """Whether a NodeSelectorTerm selects the node; an empty term selects nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    labels = node["metadata"].get("labels") or {}
    names = {"metadata.name": node["metadata"]["name"]}
    return all(_holds(item, labels) for item in expressions) and all(_holds(item, names) for item in fields)


def _holds(requirement: Object, values: Mapping[str, str]) -> bool:
    value = values.get(requirement["key"])
    wanted = requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value is None or value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            return _compares(operator, value, wanted)
    return False


def _compares(operator: str, value: str | None, wanted: Any) -> bool:
    try:
        have, limit = int(value or ""), int(wanted[0])
    except (ValueError, IndexError):
        return False
    return have > limit if operator == "Gt" else have < limit

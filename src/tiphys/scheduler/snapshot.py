"""The scheduler's picture of the cluster: nodes with what is free on them, kept current event by event.

Pods that were given a node but are not bound yet count like bound ones, so the next decision does not give the same
room away twice. Every change of a node has a version, so that what was worked out about nodes can be brought up to
date by looking at those that changed since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tiphys.api import pod_resources
from tiphys.scheduler.storage import Storage
from tiphys.scheduler.terms import AffinityTerms

Object = Mapping[str, Any]
Amounts = dict[str, int]

FINISHED = ("Succeeded", "Failed")
DEFAULT_CPU = 100
"""Millicores that a container without a request counts for when nodes are scored, so empty pods spread."""
DEFAULT_MEMORY = 200 * 1024 * 1024


@dataclass(eq=False)
class PodInfo:
    """A pod with what the plugins ask of it again and again, worked out once. The pod is read-only."""

    pod: Object

    @cached_property
    def key(self) -> str:
        return str(self.pod["metadata"]["uid"])

    @property
    def labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.pod["metadata"].get("labels") or {}
        return labels

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def priority(self) -> int:
        return self.pod["spec"].get("priority") or 0

    @cached_property
    def requests(self) -> Amounts:
        return pod_resources.requests(self.pod)

    @cached_property
    def scoring(self) -> tuple[int, int]:
        """(cpu, memory) with defaults for containers that ask for nothing."""
        containers = self.pod["spec"].get("containers") or ()
        asked = [(c.get("resources") or {}).get("requests") or {} for c in containers]
        cpu = self.requests.get("cpu", 0) + DEFAULT_CPU * sum("cpu" not in r for r in asked)
        memory = self.requests.get("memory", 0) + DEFAULT_MEMORY * sum("memory" not in r for r in asked)
        return cpu, memory

    @cached_property
    def ports(self) -> tuple[tuple[str, str, int], ...]:
        """Host ports: (host IP, protocol, port)."""
        spec = self.pod["spec"]
        sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
        return tuple(
            (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"])  # noqa: S104
            for container in (*(spec.get("containers") or ()), *sidecars)
            for port in container.get("ports") or ()
            if port.get("hostPort")
        )

    @cached_property
    def affinity(self) -> AffinityTerms:
        """What it wants of other pods."""
        return AffinityTerms.of(self.pod)

    @cached_property
    def opinionated(self) -> bool:
        """Whether it has terms about other pods."""
        affinity = self.pod["spec"].get("affinity") or {}
        return bool(affinity.get("podAffinity") or affinity.get("podAntiAffinity"))

    @cached_property
    def category(self) -> str:
        """Pods of one category are the same to every plugin that does not look at other pods."""
        spec = self.pod["spec"]
        images = [container.get("image") for container in spec.get("containers") or ()]
        asked = [spec.get(name) for name in ("tolerations", "nodeSelector", "affinity", "nodeName")]
        return repr((asked, images, self.requests, self.scoring, self.ports))


@dataclass(slots=True)
class NodeInfo:
    """A node and the pods on it."""

    node: Object
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Object, ...] = ()
    images: Mapping[str, int] = field(default_factory=dict)
    """Bytes of each image that is there, under each of its names."""
    allocatable: Amounts = field(default_factory=dict)
    used: Amounts = field(default_factory=dict)
    scoring: tuple[int, int] = (0, 0)
    pods: dict[str, PodInfo] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.node["metadata"]["name"])

    @property
    def discouraging(self) -> bool:
        """Whether it has a taint that asks pods to prefer other nodes."""
        return any(taint.get("effect") == "PreferNoSchedule" for taint in self.taints)

    def replace(self, node: Object) -> None:
        """The node object changed; its pods stay."""
        self.node = node
        self.labels = node["metadata"].get("labels") or {}
        self.taints = tuple((node.get("spec") or {}).get("taints") or ())
        status = node.get("status") or {}
        self.allocatable = pod_resources.amounts(status.get("allocatable"))
        self.images = {
            name: image.get("sizeBytes") or 0
            for image in status.get("images") or ()
            for name in image.get("names") or ()
        }

    def add(self, info: PodInfo) -> None:
        self.pods[info.key] = info
        self._count(info, 1)

    def remove(self, uid: str) -> None:
        info = self.pods.pop(uid, None)
        if info is not None:
            self._count(info, -1)

    def _count(self, info: PodInfo, sign: int) -> None:
        for name, amount in info.requests.items():
            self.used[name] = self.used.get(name, 0) + sign * amount
        cpu, memory = self.scoring
        self.scoring = (cpu + sign * info.scoring[0], memory + sign * info.scoring[1])


class Snapshot:
    """All nodes; pods found by uid. Not thread-safe; used on one event loop."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeInfo] = {}
        self._where: dict[str, str] = {}
        self._opinionated: dict[str, str] = {}
        self._versions: dict[str, int] = {}
        self._version = 0
        self._count = 0
        self.images: Counter[str] = Counter()
        """On how many nodes each image is, by each of its names."""
        self.discouraging: int = 0
        """How many nodes have a taint that asks pods to prefer other nodes."""
        self.namespaces: dict[str, Mapping[str, str]] = {}
        """Labels of each namespace."""
        self.storage = Storage()

    def __len__(self) -> int:
        return self._count

    @property
    def version(self) -> int:
        """Grows with every change of a node or of the pods on it."""
        return self._version

    def changed_since(self, version: int) -> Iterator[str]:
        """Names of the nodes that came, changed, went, got or lost a pod after `version`."""
        for name, changed in reversed(self._versions.items()):
            if changed <= version:
                return
            yield name

    def namespace_changed(self, old: Object | None, new: Object | None) -> None:
        """An informer's event about a namespace."""
        if new is not None:
            self.namespaces[new["metadata"]["name"]] = new["metadata"].get("labels") or {}
        elif old is not None:
            self.namespaces.pop(old["metadata"]["name"], None)

    def nodes(self) -> Iterator[NodeInfo]:
        """Nodes that exist (pods may be known before their node is)."""
        return (info for info in self._nodes.values() if info.node)

    def node(self, name: str) -> NodeInfo | None:
        info = self._nodes.get(name)
        return info if info and info.node else None

    def pods(self) -> Iterator[tuple[PodInfo, NodeInfo]]:
        for node in self.nodes():
            for pod in node.pods.values():
                yield pod, node

    def opinionated(self) -> Iterator[tuple[PodInfo, NodeInfo]]:
        """Only the pods with terms about other pods."""
        for uid, name in self._opinionated.items():
            node = self._nodes[name]
            if node.node:
                yield node.pods[uid], node

    def node_changed(self, old: Object | None, new: Object | None) -> None:
        """An informer's event about a node."""
        node = new or old
        if node is None:
            return
        name = node["metadata"]["name"]
        info = self._info(name)
        self._tally(info, -1)
        if new is not None:
            info.replace(new)
        else:
            info.node = {}
        self._tally(info, 1)
        self._touch(name)
        self._forget_empty(name)

    def place(self, info: PodInfo, node: str) -> None:
        """The pod is on `node`, or will be; whatever was known of it before is replaced."""
        if self._where.get(info.key) == node and self._same_room(info, node):
            self._nodes[node].pods[info.key] = info
            return
        self.remove(info.key)
        self._info(node).add(info)
        self._where[info.key] = node
        if info.opinionated:
            self._opinionated[info.key] = node
        self._touch(node)

    def remove(self, uid: str) -> None:
        """The pod is gone, finished, or was not bound after all."""
        name = self._where.pop(uid, None)
        self._opinionated.pop(uid, None)
        if name is not None:
            self._nodes[name].remove(uid)
            self._touch(name)
            self._forget_empty(name)

    def placed(self, uid: str) -> str:
        """The node that the pod is counted on, "" if none."""
        return self._where.get(uid, "")

    def _same_room(self, info: PodInfo, node: str) -> bool:
        before = self._nodes[node].pods[info.key]
        return before.requests == info.requests and before.scoring == info.scoring and before.ports == info.ports

    def _tally(self, info: NodeInfo, sign: int) -> None:
        if not info.node:
            return
        self._count += sign
        self.discouraging += sign * info.discouraging
        for image in info.images:
            self.images[image] += sign

    def _touch(self, name: str) -> None:
        self._version += 1
        self._versions.pop(name, None)
        self._versions[name] = self._version

    def _info(self, name: str) -> NodeInfo:
        return self._nodes.setdefault(name, NodeInfo({}))

    def _forget_empty(self, name: str) -> None:
        info = self._nodes[name]
        if not info.node and not info.pods:
            del self._nodes[name]

"""What a pod's node means for the pod: PodTopologyLabels, NodeDeclaredFeatureValidator, PodResizeValidator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tiphys.api import pod_resources
from tiphys.api.quantity import parse
from tiphys.apiserver.admission.decision import concerns, refuse
from tiphys.apiserver.types import Attributes, Object, Plugin, Reader

TOPOLOGY = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
OS = "kubernetes.io/os"


class PodTopologyLabels(Plugin):
    """Pods get the zone and the region of their node as labels, when they are bound to it (KEP-4742)."""

    name = "PodTopologyLabels"
    resources = frozenset({("", "pods")})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def admit(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if attributes.operation != "CREATE" or obj is None or attributes.info.resource != "pods":
            return
        if attributes.info.subresource == "binding":
            target = obj.get("target") or {}
            node = target.get("name") if target.get("kind") == "Node" else None
        elif not attributes.info.subresource:
            node = (obj.get("spec") or {}).get("nodeName")
        else:
            return
        labels = self._labels(node) if node else {}
        if labels:
            metadata = obj.setdefault("metadata", {})
            metadata["labels"] = {**(metadata.get("labels") or {}), **labels}

    def _labels(self, name: str) -> Mapping[str, str]:
        node: Object = self._reader.get("", "nodes", "", name) or {"metadata": {}}
        labels = node["metadata"].get("labels") or {}
        return {key: labels[key] for key in TOPOLOGY if key in labels}


class NodeDeclaredFeatureValidator(Plugin):
    """A running pod is not changed into one that its node cannot run (KEP-5328)."""

    name = "NodeDeclaredFeatureValidator"
    resources = frozenset({("", "pods")})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def validate(self, attributes: Attributes) -> None:
        pod, old = _changed(attributes, "", "resize")
        if pod is None or old is None:
            return
        wanted = list(_features(pod.get("spec") or {}, old.get("spec") or {}))
        if not wanted:
            return
        name = pod["spec"]["nodeName"]
        declared = (_node(self._reader, attributes, name).get("status") or {}).get("declaredFeatures") or ()
        missing = [feature for feature in wanted if feature not in declared]
        if missing:
            detail = f'{", ".join(missing)} which are not available on node "{name}"'
            raise refuse(attributes, f"pod update requires features {detail}")


def _features(new: Object, old: Object) -> Iterator[str]:
    """What the difference between two specs needs of a node."""
    if (new.get("resources") or old.get("resources")) and new.get("resources") != old.get("resources"):
        yield "InPlacePodLevelResourcesVerticalScaling"
    for before, after in zip(old.get("initContainers") or (), new.get("initContainers") or (), strict=False):
        if before.get("restartPolicy") != "Always" and before.get("resources") != after.get("resources"):
            yield "InPlacePodVerticalScalingInitContainers"
            return


class PodResizeValidator(Plugin):
    """A pod is not resized beyond what its node has."""

    name = "PodResizeValidator"
    resources = frozenset({("", "pods")})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def validate(self, attributes: Attributes) -> None:
        pod, _ = _changed(attributes, "resize")
        if pod is None:
            return
        name = pod["spec"]["nodeName"]
        node = _node(self._reader, attributes, name)
        system = (node["metadata"].get("labels") or {}).get(OS, "linux")
        if system != "linux":
            detail = f'pod resize is only supported on linux nodes, node "{name}" is "{system}"'
            self._refuse(attributes, detail, "UnsupportedPlatform")
        problems = _beyond(pod, (node.get("status") or {}).get("allocatable") or {})
        if problems:
            detail = f"node didn't have enough allocatable resources: {'; '.join(problems)}"
            self._refuse(attributes, detail, "NodeCapacity")

    def _refuse(self, attributes: Attributes, detail: str, reason: str) -> None:
        error = refuse(attributes, detail)
        error.details["causes"] = [{"reason": reason}]
        raise error


def _beyond(pod: Object, allocatable: Mapping[str, str]) -> list[str]:
    requests = pod_resources.requests(pod)
    cpu, memory = parse(str(allocatable.get("cpu", "0"))).milli, parse(str(allocatable.get("memory", "0"))).value
    problems = []
    if requests.get("cpu", 0) > cpu:
        problems.append(f"cpu, requested: {requests['cpu']}, allocatable: {cpu}")
    if requests.get("memory", 0) > memory:
        problems.append(f"memory, requested: {requests['memory']}, allocatable: {memory}")
    return problems


def _changed(attributes: Attributes, *subresources: str) -> tuple[Object | None, Object | None]:
    """The pod after and before, if it is on a node and its spec changed."""
    pod, old = attributes.obj, attributes.old
    if attributes.operation != "UPDATE" or pod is None or old is None:
        return None, None
    if not any(concerns(attributes, "", "pods", subresource) for subresource in subresources):
        return None, None
    if not pod["spec"].get("nodeName") or pod["metadata"].get("generation") == old["metadata"].get("generation"):
        return None, None
    return pod, old


def _node(reader: Reader, attributes: Attributes, name: str) -> Object:
    node = reader.get("", "nodes", "", name)
    if node is None:
        raise refuse(attributes, f'node "{name}" not found')
    return node

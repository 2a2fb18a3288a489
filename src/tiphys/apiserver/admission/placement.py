"""Where pods may run: PodNodeSelector, LimitPodHardAntiAffinityTopology, ExtendedResourceToleration. Off by default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api import errors
from tiphys.api.errors import client_fault
from tiphys.api.selectors import parse_labels
from tiphys.api.validation.quantities import is_extended
from tiphys.apiserver.admission.decision import concerns, creates_pod, refuse
from tiphys.apiserver.types import Attributes, Object, Plugin, Reader
from tiphys.base.errors import Permanent

ANNOTATION = "scheduler.alpha.kubernetes.io/node-selector"
DEFAULT = "clusterDefaultNodeSelector"
HOSTNAME = "kubernetes.io/hostname"


class PodNodeSelector(Plugin):
    """Pods get the node selector of their namespace, and may not go beyond the namespace's list."""

    name = "PodNodeSelector"
    resources = frozenset({("", "pods")})

    def __init__(self, reader: Reader, configuration: Mapping[str, Any] | None) -> None:
        selectors = (configuration or {}).get("podNodeSelectorPluginConfig") or {}
        if not isinstance(selectors, Mapping):
            raise Permanent("PodNodeSelector: podNodeSelectorPluginConfig: must be an object")
        self._reader, self._selectors = reader, {str(key): str(value) for key, value in selectors.items()}

    async def admit(self, attributes: Attributes) -> None:
        pod = creates_pod(attributes)
        if pod is None:
            return
        wanted = self._namespace_selector(attributes)
        own = pod["spec"].get("nodeSelector") or {}
        if _conflict(wanted, own):
            raise refuse(attributes, "pod node label selector conflicts with its namespace node label selector")
        if wanted:
            pod["spec"]["nodeSelector"] = {**wanted, **own}
        await self.validate(attributes)

    async def validate(self, attributes: Attributes) -> None:
        pod = creates_pod(attributes)
        if pod is None:
            return
        own = pod["spec"].get("nodeSelector") or {}
        if _conflict(self._namespace_selector(attributes), own):
            raise refuse(attributes, "pod node label selector conflicts with its namespace node label selector")
        allowed = _labels(self._selectors.get(attributes.info.namespace, ""))
        if allowed and any(allowed.get(key) != value for key, value in own.items()):
            raise refuse(attributes, "pod node label selector labels conflict with its namespace whitelist")

    def _namespace_selector(self, attributes: Attributes) -> Mapping[str, str]:
        name = attributes.info.namespace
        namespace = self._reader.get("", "namespaces", "", name)
        if namespace is None:
            raise errors.not_found("", "namespaces", name)
        annotations = namespace["metadata"].get("annotations") or {}
        return _labels(annotations.get(ANNOTATION, self._selectors.get(DEFAULT, "")))


def _labels(selector: str) -> dict[str, str]:
    """`a=b,c=d` as labels. Raises ApiError (500)."""
    found = {}
    for part in filter(None, selector.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise client_fault(f"invalid selector: {selector}")
        found[key.strip()] = value.strip()
    try:
        parse_labels(selector)
    except ValueError as error:
        raise client_fault(str(error)) from error
    return found


def _conflict(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return any(key in other and other[key] != value for key, value in one.items())


class LimitPodHardAntiAffinityTopology(Plugin):
    """No pod keeps others off more than its own node."""

    name = "LimitPodHardAntiAffinityTopology"
    resources = frozenset({("", "pods")})

    async def validate(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if attributes.operation not in ("CREATE", "UPDATE") or pod is None or not concerns(attributes, "", "pods"):
            return
        affinity = (pod["spec"].get("affinity") or {}).get("podAntiAffinity") or {}
        for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
            if term.get("topologyKey") != HOSTNAME:
                detail = f"has TopologyKey {term.get('topologyKey', '')} but only key {HOSTNAME} is allowed"
                raise refuse(attributes, f"affinity.PodAntiAffinity.RequiredDuringScheduling {detail}")


class ExtendedResourceToleration(Plugin):
    """Pods tolerate the taints of nodes that are kept for the extended resources that they ask for."""

    name = "ExtendedResourceToleration"
    resources = frozenset({("", "pods")})

    async def admit(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if attributes.operation not in ("CREATE", "UPDATE") or pod is None or not concerns(attributes, "", "pods"):
            return
        tolerations = list(pod["spec"].get("tolerations") or ())
        for name in sorted(_extended(pod)):
            wanted = {"key": name, "operator": "Exists", "effect": "NoSchedule"}
            if wanted not in tolerations:
                tolerations.append(wanted)
        if tolerations:
            pod["spec"]["tolerations"] = tolerations


def _extended(pod: Object) -> set[str]:
    every = [*(pod["spec"].get("containers") or ()), *(pod["spec"].get("initContainers") or ())]
    requests = [(container.get("resources") or {}).get("requests") or {} for container in every]
    return {name for one in requests for name in one if is_extended(name)}

"""The words for an eviction: its message and the annotations of its event. Pure; texts are upstream's."""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.api.quantity import Quantity, from_units
from tiphys.kubelet.eviction import signals
from tiphys.kubelet.eviction.figures import ContainerFigures, Observations, PodFigures
from tiphys.kubelet.eviction.signals import Threshold
from tiphys.kubelet.podspec import Object, init_containers, main_containers, name_of
from tiphys.kubelet.resources import amounts

REASON = "Evicted"
_ZERO = from_units(0)


def eviction_message(
    resource: str,
    pod: Object,
    found: PodFigures | None,
    thresholds: Sequence[Threshold],
    observed: Observations,
) -> tuple[str, dict[str, str]]:
    """(message, annotations of the event)."""
    message = f"The node was low on resource: {resource}. " + _why(resource, thresholds, observed)
    if found is None:
        return message, {}
    annotations: dict[str, str] = {}
    request = amounts((pod["spec"].get("resources") or {}).get("requests")).get("memory")
    if resource == "memory" and request is not None:
        used = str(from_units(found.memory, "binary"))
        message += f"Pod {name_of(pod)} was using {used}, request is {request}, has larger consumption of {resource}. "
        annotations |= {"offending_pod": name_of(pod), "offending_pod_usage": used}
    names, usages = [], []
    for container in (*main_containers(pod), *init_containers(pod)):
        measured = found.containers.get(container["name"])
        use = _usage(resource, measured) if measured is not None else None
        wanted = amounts((container.get("resources") or {}).get("requests")).get(resource, _ZERO)
        if use is not None and use > wanted:
            message += f"Container {container['name']} was using {use}, request is {wanted}, "
            message += f"has larger consumption of {resource}. "
            names.append(container["name"])
            usages.append(str(use))
    annotations["offending_containers"] = ",".join(names)
    annotations["offending_containers_usage"] = ",".join(usages)
    annotations["starved_resource"] = resource
    return message, annotations


def _why(resource: str, thresholds: Sequence[Threshold], observed: Observations) -> str:
    for threshold in thresholds:
        seen = observed.get(threshold.signal)
        if signals.RESOURCES[threshold.signal] == resource and seen is not None:
            return f"Threshold quantity: {threshold.value.of(seen.capacity)}, available: {seen.available}. "
    return ""


def _usage(resource: str, found: ContainerFigures) -> Quantity | None:
    if resource == signals.STORAGE and found.rootfs is not None and found.logs is not None:
        return from_units(found.rootfs.bytes + found.logs.bytes, "binary")
    if resource == "memory" and found.memory is not None:
        return from_units(found.memory, "binary")
    return None

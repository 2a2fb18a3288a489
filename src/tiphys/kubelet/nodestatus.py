"""The Node object that a kubelet keeps: labels, capacity, conditions, addresses, info. Pure.

Reasons and messages are upstream's (kubelet 1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys import KUBERNETES_VERSION, __version__
from tiphys.api.quantity import Quantity, from_units, parse
from tiphys.base.clock import rfc3339
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.machine import Machine
from tiphys.kubelet.resources import Amounts, amounts
from tiphys.kubelet.unsupported import HANDLERS
from tiphys.runtime.types import Image

_MAX_IMAGES = 50
_MAX_NAMES = 5


@dataclass(frozen=True, slots=True)
class Health:
    """What conditions are made from. `runtime_error` is "" when the runtime answers."""

    memory_pressure: bool = False
    disk_pressure: bool = False
    pid_pressure: bool = False
    runtime_error: str = ""


def node_labels(config: KubeletConfig, machine: Machine) -> dict[str, str]:
    return {
        "kubernetes.io/hostname": config.node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": machine.architecture,
    } | dict(config.node_labels)


def new_node(config: KubeletConfig, machine: Machine, status: Mapping[str, Any]) -> dict[str, Any]:
    """What a node registers as."""
    metadata = {
        "name": config.node_name,
        "labels": node_labels(config, machine),
        "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
    }
    spec: dict[str, Any] = {}
    if config.register_with_taints:
        spec["taints"] = [dict(taint) for taint in config.register_with_taints]
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": dict(status)}


def capacity(config: KubeletConfig, machine: Machine) -> Amounts:
    """What the machine has, or what the configuration says instead."""
    found = {
        "cpu": from_units(machine.cpus),
        "ephemeral-storage": Quantity(machine.disk // 1024 * 1024 * 10**9, "binary"),
        "hugepages-1Gi": from_units(0),
        "hugepages-2Mi": from_units(0),
        "memory": Quantity(machine.memory // 1024 * 1024 * 10**9, "binary"),
        "pods": from_units(config.max_pods),
    }
    return found | amounts(config.capacity)


def allocatable(config: KubeletConfig, whole: Amounts) -> Amounts:
    """Capacity less what is reserved for the system and kept back for eviction."""
    left = dict(whole)
    for reserved in (config.system_reserved, config.kube_reserved, _evicted(config)):
        for name, amount in amounts(reserved).items():
            if name in left:
                left[name] = max(left[name] - amount, parse("0"))
    return left


def _evicted(config: KubeletConfig) -> dict[str, str]:
    threshold = config.eviction_hard.get("memory.available", "")
    return {"memory": threshold} if threshold and not threshold.endswith("%") else {}


def node_status(
    config: KubeletConfig,
    machine: Machine,
    health: Health,
    images: Sequence[Image],
    port: int,
    old: Mapping[str, Any],
    now: float,
) -> dict[str, Any]:
    """The whole status; `old` keeps transition times. Heartbeats are `now`."""
    whole = capacity(config, machine)
    return {
        "capacity": {name: str(amount) for name, amount in whole.items()},
        "allocatable": {name: str(amount) for name, amount in allocatable(config, whole).items()},
        "conditions": _conditions(health, old, now),
        "addresses": [
            {"type": "InternalIP", "address": config.node_ip},
            {"type": "Hostname", "address": config.node_name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": _info(machine),
        "images": _images(images),
        "runtimeHandlers": _handlers(machine),
        "features": {"supplementalGroupsPolicy": True},
    }


def _handlers(machine: Machine) -> list[dict[str, Any]]:
    """The runtime, by no name and by those that RuntimeClasses may call it."""
    features = {"recursiveReadOnlyMounts": True, "userNamespaces": machine.user_namespaces}
    return [{"name": name, "features": features} for name in HANDLERS]


def _info(machine: Machine) -> dict[str, str]:
    return {
        "machineID": machine.machine_id,
        "systemUUID": machine.system_uuid,
        "bootID": machine.boot_id,
        "kernelVersion": machine.kernel,
        "osImage": machine.os_image,
        "containerRuntimeVersion": f"tiphys://{__version__}",
        "kubeletVersion": KUBERNETES_VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": machine.architecture,
    }


def _images(images: Sequence[Image]) -> list[dict[str, Any]]:
    largest = sorted(images, key=lambda image: (-image.size, image.id))[:_MAX_IMAGES]
    return [
        {"names": [*image.digests, *image.tags][:_MAX_NAMES], "sizeBytes": image.size}
        for image in largest
        if image.digests or image.tags
    ]


_PRESSURES = {
    "MemoryPressure": (
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ),
}


def _conditions(health: Health, old: Mapping[str, Any], now: float) -> list[dict[str, Any]]:
    former = {condition["type"]: condition for condition in old.get("conditions") or ()}
    found: list[dict[str, Any]] = []
    states = (health.memory_pressure, health.disk_pressure, health.pid_pressure)
    for (kind, texts), pressed in zip(_PRESSURES.items(), states, strict=True):
        reason, message = texts[0 if pressed else 1]
        found.append(_condition(kind, "True" if pressed else "False", reason, message, former.get(kind), now))
    if health.runtime_error:
        ready = ("False", "KubeletNotReady", f"container runtime is down: {health.runtime_error}")
    else:
        ready = ("True", "KubeletReady", "kubelet is posting ready status")
    found.append(_condition("Ready", *ready, former.get("Ready"), now))
    return found


def _condition(
    kind: str, status: str, reason: str, message: str, former: Mapping[str, Any] | None, now: float
) -> dict[str, Any]:
    since = former["lastTransitionTime"] if former is not None and former["status"] == status else rfc3339(now)
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": rfc3339(now),
        "lastTransitionTime": since,
    }


_EVENTS = {
    ("MemoryPressure", "True"): "NodeHasInsufficientMemory",
    ("MemoryPressure", "False"): "NodeHasSufficientMemory",
    ("DiskPressure", "True"): "NodeHasDiskPressure",
    ("DiskPressure", "False"): "NodeHasNoDiskPressure",
    ("PIDPressure", "True"): "NodeHasInsufficientPID",
    ("PIDPressure", "False"): "NodeHasSufficientPID",
    ("Ready", "True"): "NodeReady",
    ("Ready", "False"): "NodeNotReady",
}


def transitions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Reasons of the events that tell which conditions changed."""
    former = {condition["type"]: condition["status"] for condition in old.get("conditions") or ()}
    return [
        _EVENTS[condition["type"], condition["status"]]
        for condition in new["conditions"]
        if former.get(condition["type"]) != condition["status"]
    ]


def same_but_heartbeats(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether nothing but the time of looking differs."""
    return _without_heartbeats(old, new) == _without_heartbeats(new, new)


def _without_heartbeats(status: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: status.get(name) for name in fields if name != "conditions"}
    kinds = {condition["type"] for condition in fields["conditions"]}
    own["conditions"] = {
        condition["type"]: {name: value for name, value in condition.items() if name != "lastHeartbeatTime"}
        for condition in status.get("conditions") or ()
        if condition["type"] in kinds
    }
    return own

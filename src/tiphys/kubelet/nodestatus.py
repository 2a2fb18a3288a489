"""The status of the Node that a kubelet keeps: capacity, conditions, addresses, info. Pure.

Reasons and messages are upstream's (kubelet 1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys import KUBERNETES_VERSION, __version__
from tiphys.api.quantity import Quantity, from_units, parse
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.machine import Machine
from tiphys.kubelet.nodeconditions import Health, node_conditions
from tiphys.kubelet.resources import Amounts, amounts
from tiphys.kubelet.unsupported import HANDLERS
from tiphys.runtime.types import Image

_MAX_NAMES = 5


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
        "conditions": node_conditions(health, old, now),
        "addresses": [
            {"type": "InternalIP", "address": config.node_ip},
            {"type": "Hostname", "address": config.node_name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": _info(machine),
        "images": _images(images, config.max_images),
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


def _images(images: Sequence[Image], most: int) -> list[dict[str, Any]]:
    """The largest first; -1 for no limit."""
    largest = sorted(images, key=lambda image: (-image.size, image.id))[: most if most >= 0 else None]
    return [
        {"names": [*image.digests, *image.tags][:_MAX_NAMES], "sizeBytes": image.size}
        for image in largest
        if image.digests or image.tags
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

"""The status of the Node that a kubelet keeps: capacity, conditions, addresses, info. Pure.

Reasons and messages are upstream's (kubelet 1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys import KUBERNETES_VERSION
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.machine import Machine
from tiphys.kubelet.node_resources import allocatable, capacity
from tiphys.kubelet.nodeconditions import Health, node_conditions
from tiphys.runtime.types import Image, RuntimeInfo

_MAX_NAMES = 5


DECLARED = {
    "ExtendWebSocketsToKubelet": True,
    "InPlacePodLevelResourcesVerticalScaling": True,
    "InPlacePodVerticalScalingInitContainers": True,
    "RestartAllContainersOnContainerExits": True,
}
"""Features that a node tells of (KEP-5328), with the defaults of their gates."""


def node_status(
    config: KubeletConfig,
    machine: Machine,
    health: Health,
    images: Sequence[Image],
    runtime: RuntimeInfo,
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
            *({"type": "InternalIP", "address": address} for address in config.node_ips),
            {"type": "Hostname", "address": config.node_name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": _info(machine, runtime),
        "images": _images(images, config.max_images),
        "runtimeHandlers": _handlers(machine, runtime),
        "features": {"supplementalGroupsPolicy": True},
        "declaredFeatures": declared_features(config),
    }


def declared_features(config: KubeletConfig) -> list[str]:
    """Those that are switched on."""
    return sorted(name for name, default in DECLARED.items() if config.feature_gates.get(name, default))


def _handlers(machine: Machine, runtime: RuntimeInfo) -> list[dict[str, Any]]:
    """What RuntimeClasses may name."""
    return [
        {
            "name": one.name,
            "features": {
                "recursiveReadOnlyMounts": one.recursive_readonly_mounts,
                "userNamespaces": one.user_namespaces and machine.user_namespaces,
            },
        }
        for one in runtime.handlers
    ]


def _info(machine: Machine, runtime: RuntimeInfo) -> dict[str, Any]:
    return {
        "machineID": machine.machine_id,
        "systemUUID": machine.system_uuid,
        "bootID": machine.boot_id,
        "kernelVersion": machine.kernel,
        "osImage": machine.os_image,
        "containerRuntimeVersion": f"{runtime.name}://{runtime.version}",
        "kubeletVersion": KUBERNETES_VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": machine.architecture,
    } | ({"swap": {"capacity": machine.swap}} if machine.swap else {})


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

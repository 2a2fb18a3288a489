"""What plugins give to a container besides its spec: variables, mounts, devices, annotations, CDI devices. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tiphys.runtime.types import ContainerSpec, Device, Mount

ANNOTATIONS = "tiphys.io/annotations"
"""Label of a container: annotations that plugins ask for, as JSON."""


@dataclass(frozen=True, slots=True)
class Grants:
    env: Mapping[str, str] = field(default_factory=dict)
    """The pod's own variables of the same name win."""
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    cdi_devices: tuple[str, ...] = ()
    """Full names: vendor.com/class=name."""

    def apply(self, spec: ContainerSpec) -> ContainerSpec:
        """All but the variables (see specs.merged_env) and the CDI devices (see plugins.cdi)."""
        if not (self.mounts or self.devices or self.annotations):
            return spec
        labels = dict(spec.labels)
        if self.annotations:
            labels[ANNOTATIONS] = json.dumps(dict(self.annotations), sort_keys=True)
        return replace(spec, mounts=(*self.mounts, *spec.mounts), devices=(*spec.devices, *self.devices), labels=labels)


NOTHING = Grants()


def merge(answers: Iterable[Mapping[str, Any]], cdi_devices: Iterable[str] = ()) -> Grants:
    """Of all plugins' answers together; of two for the same name or path the first holds."""
    env: dict[str, str] = {}
    mounts: dict[str, Mount] = {}
    devices: dict[str, Device] = {}
    annotations: dict[str, str] = {}
    names: dict[str, None] = {}
    for answer in answers:
        env = {**answer.get("envs", {}), **env}
        annotations = {**answer.get("annotations", {}), **annotations}
        for mount in answer.get("mounts", ()):
            target = mount["container_path"]
            mounts.setdefault(target, Mount(target, mount["host_path"], readonly=mount["read_only"]))
        for node in answer.get("devices", ()):
            target = node["container_path"]
            devices.setdefault(target, Device(node["host_path"], target, node["permissions"]))
        names |= dict.fromkeys(device["name"] for device in answer.get("cdi_devices", ()))
    names |= dict.fromkeys(cdi_devices)
    return Grants(env, tuple(mounts.values()), tuple(devices.values()), annotations, tuple(names))

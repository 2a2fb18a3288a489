"""Volume mounts and block devices of a container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.paths import local_descending

Struct = Mapping[str, Any]


def volume_mounts(errors: Errors, path: str, container: Struct, volumes: Mapping[str, Struct]) -> None:
    """`path` is the container's."""
    devices = {d.get("name", ""): d.get("devicePath", "") for d in container.get("volumeDevices") or ()}
    taken: set[str] = set()
    base = f"{path}.volumeMounts"
    for i, mount in enumerate(container.get("volumeMounts") or ()):
        where = f"{base}[{i}]"
        name, target = mount.get("name", ""), mount.get("mountPath", "")
        errors.non_empty(f"{where}.name", name)
        if name not in volumes:
            errors.not_found(f"{where}.name", name)
        errors.non_empty(f"{where}.mountPath", target)
        if target in taken:
            errors.invalid(f"{where}.mountPath", target, "must be unique")
        taken.add(target)
        if name in devices:
            errors.invalid(f"{where}.name", name, "must not already exist in volumeDevices")
        if target in devices.values():
            errors.invalid(f"{where}.mountPath", target, "must not already exist as a path in volumeDevices")
        _sub_paths(errors, base, where, mount)
        _propagation(errors, base, mount, container)


def _sub_paths(errors: Errors, base: str, where: str, mount: Struct) -> None:
    """Upstream names these two without the index of the mount."""
    sub, expression = mount.get("subPath"), mount.get("subPathExpr")
    if sub:
        local_descending(errors, f"{base}.subPath", sub)
    if expression:
        if sub:
            errors.invalid(f"{where}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
        local_descending(errors, f"{base}.subPathExpr", expression)


def _propagation(errors: Errors, base: str, mount: Struct, container: Struct) -> None:
    mode, where = mount.get("mountPropagation"), f"{base}.mountPropagation"
    errors.one_of(where, mode, ("Bidirectional", "HostToContainer", "None"))
    if mode == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
        detail = "Bidirectional mount propagation is available only to privileged containers"
        errors.forbidden(where, detail)
    recursive, where = mount.get("recursiveReadOnly"), f"{base}.recursiveReadOnly"
    errors.one_of(where, recursive, ("Disabled", "Enabled", "IfPossible"))
    if recursive in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            errors.forbidden(where, "may only be specified when readOnly is true")
        if mode not in (None, "None"):
            errors.forbidden(where, "may only be specified when mountPropagation is None or not specified")


def volume_devices(errors: Errors, path: str, container: Struct, volumes: Mapping[str, Struct]) -> None:
    """`path` is the container's."""
    mounts = {m.get("name", ""): m.get("mountPath", "") for m in container.get("volumeMounts") or ()}
    names: set[str] = set()
    paths: set[str] = set()
    for i, device in enumerate(container.get("volumeDevices") or ()):
        where = f"{path}.volumeDevices[{i}]"
        name, target = device.get("name", ""), device.get("devicePath", "")
        _device_name(errors, f"{where}.name", name, names, volumes)
        errors.non_empty(f"{where}.devicePath", target)
        if target in paths:
            errors.invalid(f"{where}.devicePath", target, "must be unique")
        if ".." in target.split("/"):
            errors.invalid(f"{where}.devicePath", target, "can not contain backsteps ('..')")
        else:
            paths.add(target)
        if name in mounts:
            errors.invalid(f"{where}.name", name, "must not already exist in volumeMounts")
        if target in mounts.values():
            errors.invalid(f"{where}.devicePath", target, "must not already exist as a path in volumeMounts")
        if name:
            names.add(name)


def _device_name(errors: Errors, path: str, name: str, names: set[str], volumes: Mapping[str, Struct]) -> None:
    errors.non_empty(path, name)
    if name in names:
        errors.invalid(path, name, "must be unique")
    volume = volumes.get(name)
    if volume is None:
        errors.not_found(path, name)
    elif volume.get("persistentVolumeClaim") is None and volume.get("ephemeral") is None:
        detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
        errors.invalid(path, name, detail)

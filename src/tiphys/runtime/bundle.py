"""What a shim is told: a ContainerSpec with every default filled in and every name resolved, as plain JSON."""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tiphys.runtime import apparmor, capabilities, resources, seccomp
from tiphys.runtime.cgroups import Layout
from tiphys.runtime.spec import plain
from tiphys.runtime.types import ContainerSpec, Device, InvalidSpec, Security

MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
    "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def container(
    spec: ContainerSpec, directory: Path, user: str, layers: Sequence[Path], sandbox: dict[str, Any], layout: Layout
) -> dict[str, Any]:
    """The bundle. `sandbox` has its `namespaces`, `shm` and `cgroup_parent`. Raises InvalidSpec."""
    security = spec.security
    if sandbox.get("user_namespace"):
        _check_propagation(spec)
    allowed = _capabilities(security)
    path = cgroup_path(spec, sandbox["cgroup_parent"])
    devices = None if security.privileged else [_rule(device) for device in spec.devices]
    return {
        **_process(spec, user, allowed, directory),
        "rootfs": str(directory / "rootfs"),
        "upper": str(directory / "upper"),
        "work": str(directory / "work"),
        "layers": [str(path) for path in layers],
        "mounts": plain(sorted(spec.mounts, key=lambda mount: os.path.normpath(mount.target).count("/"))),
        "devices": plain(spec.devices),
        "shm": sandbox["shm"],
        "namespaces": sandbox["namespaces"],
        "user_namespace": sandbox.get("user_namespace"),
        "cgroup": resources.plan(layout, path, spec.resources, devices),
        "cgroup_controllers": [] if layout.v2 else layout.controllers() or None,
        # As containerd: on v2 privileged containers see the machine's whole tree.
        "host_cgroups": bool(layout.v2 and security.privileged and not sandbox.get("user_namespace")),
        "privileged": security.privileged,
        "readonly_rootfs": security.readonly_rootfs,
        "masked_paths": _paths(security, security.masked_paths, masked()),
        "readonly_paths": _paths(security, security.readonly_paths, READONLY),
        "log_path": spec.log_path,
        "log_max_bytes": spec.log_max_bytes,
        "log_max_files": spec.log_max_files,
    }


def check(spec: ContainerSpec, root: Path) -> None:
    """Whether its capabilities and its seccomp profile can be had. `root` is the runtime's. Raises InvalidSpec."""
    _seccomp(spec.security, _capabilities(spec.security), root)
    apparmor.resolve(spec.security.apparmor, privileged=spec.security.privileged)


def add_images(content: dict[str, Any], layers: Callable[[str], Sequence[Path]]) -> None:
    """Tell mounts of images where those lie. `layers` gives an image's, topmost first; raises NoSuchImage."""
    for mount in content["mounts"]:
        if mount["image"]:
            mount["layers"] = [str(path) for path in layers(mount["image"])]


def _check_propagation(spec: ContainerSpec) -> None:
    """Mounts that a user namespace's root makes must not appear on the host."""
    for mount in spec.mounts:
        if mount.propagation == "rshared":
            raise InvalidSpec(f"mount {mount.target}: propagation rshared is not possible in a user namespace")


def cgroup_path(spec: ContainerSpec, parent: str) -> str:
    """The container's cgroup, relative to each hierarchy."""
    return os.path.join(parent, spec.cgroup_name or spec.id)


def _process(spec: ContainerSpec, user: str, allowed: int, directory: Path) -> dict[str, Any]:
    security = spec.security
    return {
        "id": spec.id,
        "argv": list(spec.argv),
        "env": [list(pair) for pair in spec.env],
        "cwd": spec.cwd or "/",
        "user": user,
        "groups": list(spec.supplemental_groups),
        "strict_groups": spec.strict_groups,
        "rlimits": [list(limit) for limit in spec.rlimits],
        "capabilities": allowed,
        "no_new_privileges": security.no_new_privileges,
        "seccomp": _seccomp(security, allowed, directory.parent.parent),
        "apparmor": apparmor.resolve(security.apparmor, privileged=security.privileged),
        "oom_score_adj": spec.resources.oom_score_adj,
        "tty": spec.tty,
        "stdin": spec.stdin,
        "stdin_once": spec.stdin_once,
    }


def _capabilities(security: Security) -> int:
    try:
        return capabilities.select(security.add_capabilities, security.drop_capabilities, security.privileged)
    except KeyError as error:
        raise InvalidSpec(f"unknown capability {error.args[0]!r}") from error


@functools.cache
def masked() -> tuple[str, ...]:
    """The default masked paths on this machine: also what tells a CPU's temperature, and so what others compute."""
    return (*MASKED, *sorted(glob.glob("/sys/devices/system/cpu/cpu*/thermal_throttle")))


def _paths(security: Security, given: tuple[str, ...] | None, default: tuple[str, ...]) -> list[str]:
    if security.privileged:
        return []
    return list(default if given is None else given)


def _seccomp(security: Security, allowed: int, root: Path) -> str:
    """The path of the compiled filter; "" for none."""
    if security.privileged or security.seccomp == "unconfined":
        return ""
    return seccomp.compiled(security.seccomp, allowed, root)


def _rule(device: Device) -> str:
    """The v1 device cgroup's line for a device."""
    try:
        facts = os.stat(device.source)
    except OSError as error:
        raise InvalidSpec(f"device {device.source}: {error.strerror}") from error
    kind = "b" if facts.st_mode & 0o170000 == 0o060000 else "c"
    return f"{kind} {os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)} {device.permissions}"

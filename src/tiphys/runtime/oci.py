"""config.json of an OCI bundle, made from ours: the same container by runc, crun and their like. Pure but for facts.

Source: OCI runtime specification (config.md, config-linux.md). The user is filled in by the shim, which can look
into the container's own /etc/passwd.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from tiphys.runtime import capabilities, seccomp, seccomp_oci
from tiphys.runtime.confine import DEFAULT_PATH
from tiphys.runtime.resources import DEFAULT_DEVICES
from tiphys.runtime.rootfs import host_devices
from tiphys.runtime.types import InvalidSpec, Security

_PLAIN = ["nosuid", "noexec", "nodev"]
_PROPAGATION = {"private": "rprivate", "rslave": "rslave"}


def config(bundle: Mapping[str, Any], security: Security) -> dict[str, Any]:
    """The whole of it, from bundle.container's. Raises InvalidSpec for what no OCI runtime is asked to do here."""
    if bundle.get("user_namespace"):
        raise InvalidSpec("user namespaces are not supported with this runtime handler")
    return {
        "ociVersion": "1.0.2",
        "process": _process(bundle),
        "root": {"path": bundle["rootfs"], "readonly": bundle["readonly_rootfs"]},
        "mounts": [*_kernel_filesystems(bundle), *(_volume(mount) for mount in bundle["mounts"])],
        "linux": _linux(bundle, security),
    }


def _process(bundle: Mapping[str, Any]) -> dict[str, Any]:
    names = [f"CAP_{name}" for name in capabilities.names(bundle["capabilities"] & capabilities.available())]
    process: dict[str, Any] = {
        "terminal": bundle["tty"],
        "user": {"uid": 0, "gid": 0},
        "args": bundle["argv"],
        "env": [f"{name}={value}" for name, value in {"PATH": DEFAULT_PATH, **dict(bundle["env"])}.items()],
        "cwd": bundle["cwd"],
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), names),
        "noNewPrivileges": bundle["no_new_privileges"],
        "rlimits": [{"type": f"RLIMIT_{name}", "soft": soft, "hard": hard} for name, soft, hard in bundle["rlimits"]],
    }
    if bundle["apparmor"]:
        process["apparmorProfile"] = bundle["apparmor"]
    return process


def _kernel_filesystems(bundle: Mapping[str, Any]) -> list[dict[str, Any]]:
    access = ["rw"] if bundle["privileged"] else ["ro"]
    shm = bundle["shm"]
    return [
        _mount("/proc", "proc", "proc", _PLAIN),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", _PLAIN),
        _mount("/dev/shm", "bind", shm, ["rbind", "rw"])  # noqa: S108 - a mount point
        if shm
        else _mount("/dev/shm", "tmpfs", "shm", [*_PLAIN, "mode=1777", "size=65536k"]),  # noqa: S108
        _mount("/sys", "sysfs", "sysfs", [*_PLAIN, *access]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*_PLAIN, "relatime", *access]),
    ]


def _mount(target: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": options}


def _volume(mount: Mapping[str, Any]) -> dict[str, Any]:
    target, options = mount["target"], [one for one in mount["options"] if one in _PLAIN]
    if mount.get("image"):
        raise InvalidSpec(f"mount {target}: image volumes are not supported with this runtime handler")
    if mount["propagation"] not in _PROPAGATION:
        raise InvalidSpec(
            f"mount {target}: propagation {mount['propagation']} is not supported with this runtime handler"
        )
    if mount["readonly"]:
        options.append("rro" if mount["recursive_readonly"] else "ro")
    if mount["source"]:
        return _mount(target, "bind", mount["source"], ["rbind", _PROPAGATION[mount["propagation"]], *options])
    size = [f"size={mount['size']}"] if mount["size"] else []
    return _mount(target, "tmpfs", "tmpfs", ["mode=1777", *size, *options])


def _linux(bundle: Mapping[str, Any], security: Security) -> dict[str, Any]:
    linux: dict[str, Any] = {
        "namespaces": _namespaces(bundle),
        "cgroupsPath": "/" + bundle["cgroup"]["path"],
        "resources": {"devices": _device_rules(bundle)},
        "devices": [_device(one["target"], one["source"]) for one in _devices(bundle)],
        "maskedPaths": bundle["masked_paths"],
        "readonlyPaths": bundle["readonly_paths"],
        "rootfsPropagation": "rslave",
    }
    if not bundle["privileged"] and (filter_ := _seccomp(bundle, security)):
        linux["seccomp"] = filter_
    return linux


def _namespaces(bundle: Mapping[str, Any]) -> list[dict[str, str]]:
    names = {"net": "network", "ipc": "ipc", "uts": "uts"}
    spaces = bundle["namespaces"]
    found = [{"type": "mount"}, {"type": "cgroup"}]
    found += [{"type": name, "path": spaces[kind]} for kind, name in names.items()]
    if spaces["pid"] != "host":
        found.append({"type": "pid"} if spaces["pid"] == "new" else {"type": "pid", "path": spaces["pid"]})
    return found


def _devices(bundle: Mapping[str, Any]) -> list[dict[str, str]]:
    extra = [{"source": path, "target": path} for path in (host_devices() if bundle["privileged"] else ())]
    return [*extra, *bundle["devices"]]


def _device(target: str, source: str) -> dict[str, Any]:
    facts = os.stat(source)
    return {
        "path": target,
        "type": "b" if stat.S_ISBLK(facts.st_mode) else "c",
        "major": os.major(facts.st_rdev),
        "minor": os.minor(facts.st_rdev),
        "fileMode": stat.S_IMODE(facts.st_mode),
        "uid": facts.st_uid,
        "gid": facts.st_gid,
    }


def _device_rules(bundle: Mapping[str, Any]) -> list[dict[str, Any]]:
    rules = bundle["cgroup"]["devices"]
    if rules is None:
        return [{"allow": True, "access": "rwm"}]
    return [
        {"allow": False, "access": "rwm"},
        *(_device_rule(line) for line in dict.fromkeys((*DEFAULT_DEVICES, *rules))),
    ]


def _device_rule(line: str) -> dict[str, Any]:
    kind, numbers, access = line.split()
    rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
    for name, text in zip(("major", "minor"), numbers.split(":"), strict=True):
        if text != "*":
            rule[name] = int(text)
    return rule


def _seccomp(bundle: Mapping[str, Any], security: Security) -> dict[str, Any] | None:
    machine = os.uname().machine
    if security.seccomp == "unconfined":
        return None
    if security.seccomp == "default":
        return seccomp_oci.default(bundle["capabilities"], machine)
    return seccomp_oci.profile(seccomp.read(security.seccomp), bundle["capabilities"], machine)

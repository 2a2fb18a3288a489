"""Container Device Interface: what a device's name stands for, from spec files that drivers write.

Names are vendor.com/class=device. Source: the CDI specification (cncf-tags/container-device-interface, SPEC.md);
files of later directories win, as containerd and CRI-O have it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tiphys.base.errors import Permanent
from tiphys.runtime.types import ContainerSpec, Device, Mount

DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
_KINDS = {"b": stat.S_IFBLK, "c": stat.S_IFCHR, "u": stat.S_IFCHR, "p": stat.S_IFIFO}
_PROPAGATIONS = ("rslave", "rshared", "slave", "shared")


class CdiError(Permanent):
    """A CDI device cannot be given to a container."""


@dataclass(slots=True)
class Edits:
    """All that a set of devices changes."""

    env: list[str] = field(default_factory=list)
    nodes: list[Mapping[str, Any]] = field(default_factory=list)
    mounts: list[Mapping[str, Any]] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    hooks: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, edits: Mapping[str, Any]) -> None:
        """Those of one containerEdits object."""
        self.env += edits.get("env") or []
        self.nodes += edits.get("deviceNodes") or []
        self.mounts += edits.get("mounts") or []
        self.groups += edits.get("additionalGids") or []
        self.hooks += edits.get("hooks") or []


def find(names: Iterable[str], directories: Iterable[Path] = DIRECTORIES) -> Edits:
    """The edits of all named devices; a spec's own edits once. Raises CdiError."""
    devices = _devices(directories)
    names = list(dict.fromkeys(names))
    if missing := [name for name in names if name not in devices]:
        raise CdiError(f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}")
    edits, seen = Edits(), set()
    for name in names:
        spec, own = devices[name]
        if id(spec) not in seen:
            seen.add(id(spec))
            edits.add(spec.get("containerEdits") or {})
        edits.add(own)
    return edits


def _devices(directories: Iterable[Path]) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """(the whole spec, the device's edits) by full name."""
    found: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for directory in directories:
        for path in sorted((*directory.glob("*.json"), *directory.glob("*.yaml"))):
            spec = _read(path)
            for device in spec.get("devices") or ():
                found[f"{spec.get('kind')}={device.get('name')}"] = (spec, device.get("containerEdits") or {})
    return found


def _read(path: Path) -> Mapping[str, Any]:
    """{} for a file that is no spec: it must not stand in the way of others."""
    try:
        text = path.read_text()
        if path.suffix == ".json":
            content = json.loads(text)
        else:
            import yaml

            try:
                content = yaml.safe_load(text)
            except yaml.YAMLError:
                return {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, Mapping) else {}


def apply(spec: ContainerSpec, edits: Edits, directory: Path) -> ContainerSpec:
    """`spec` with the edits; device nodes that the host lacks are made in `directory`. Raises CdiError, OSError."""
    if edits.hooks:
        names = ", ".join(sorted({str(hook.get("hookName")) for hook in edits.hooks}))
        raise CdiError(f"CDI device injection failed: OCI hooks are not supported by this runtime: {names}")
    env = dict(spec.env) | dict(entry.split("=", 1) for entry in edits.env if "=" in entry)
    return replace(
        spec,
        env=tuple(env.items()),
        devices=(*spec.devices, *(_node(node, directory) for node in edits.nodes)),
        mounts=(*spec.mounts, *(_mount(mount) for mount in edits.mounts)),
        supplemental_groups=tuple(dict.fromkeys((*spec.supplemental_groups, *edits.groups))),
    )


def _node(node: Mapping[str, Any], directory: Path) -> Device:
    path = str(node["path"])
    source = str(node.get("hostPath") or path)
    permissions = str(node.get("permissions") or "rwm")
    if "major" not in node:
        return Device(source, path, permissions)
    kind, number = str(node.get("type") or "c"), os.makedev(int(node["major"]), int(node.get("minor") or 0))
    if kind not in _KINDS:
        raise CdiError(f"CDI device injection failed: {path}: unknown type of device {kind!r}")
    directory.mkdir(parents=True, exist_ok=True)
    made = directory / path.strip("/").replace("/", "_")
    made.unlink(missing_ok=True)
    mode = int(node.get("fileMode") or 0o666)
    os.mknod(made, _KINDS[kind] | mode, number)
    made.chmod(mode)
    os.chown(made, int(node.get("uid") or 0), int(node.get("gid") or 0))
    return Device(str(made), path, permissions)


def _mount(mount: Mapping[str, Any]) -> Mount:
    options = [str(option) for option in mount.get("options") or ()]
    source = "" if mount.get("type") == "tmpfs" else str(mount.get("hostPath") or "")
    propagation = next((option for option in options if option in _PROPAGATIONS), "private")
    return Mount(
        str(mount["containerPath"]),
        source,
        readonly="ro" in options,
        propagation=propagation if propagation.startswith(("r", "p")) else f"r{propagation}",
    )

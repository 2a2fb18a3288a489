"""Specs on disk: the seam's frozen dataclasses to JSON and back."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiphys.runtime.connectivity import Bandwidth, PortMapping
from tiphys.runtime.types import ContainerSpec, Device, Mount, Resources, SandboxSpec, Security


def plain(value: object) -> Any:
    """Any spec as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def resources(content: dict[str, Any]) -> Resources:
    """Resources as they were before `plain`."""
    pairs = {name: tuple((key, value) for key, value in content.get(name) or ()) for name in ("hugepages", "unified")}
    return Resources(**{**content, **pairs})


def sandbox(content: dict[str, Any]) -> SandboxSpec:
    """A SandboxSpec as it was before `plain`."""
    users = content.get("user_namespace")
    fields = {**content, "cgroup_resources": resources(content["cgroup_resources"])}
    network = {
        "ports": tuple(PortMapping(**each) for each in content.get("ports", ())),
        "bandwidth": Bandwidth(**content.get("bandwidth", {})),
    }
    return SandboxSpec(**fields | network | {"user_namespace": tuple(users) if users else None})


def container(content: dict[str, Any]) -> ContainerSpec:
    """A ContainerSpec as it was before `plain`."""
    security = content["security"]
    for name in ("add_capabilities", "drop_capabilities", "masked_paths", "readonly_paths"):
        if security[name] is not None:
            security[name] = tuple(security[name])
    return ContainerSpec(
        **{
            **content,
            "argv": tuple(content["argv"]),
            "env": tuple((name, value) for name, value in content["env"]),
            "supplemental_groups": tuple(content["supplemental_groups"]),
            "mounts": tuple(Mount(**{**item, "options": tuple(item["options"])}) for item in content["mounts"]),
            "devices": tuple(Device(**item) for item in content["devices"]),
            "rlimits": tuple((name, soft, hard) for name, soft, hard in content["rlimits"]),
            "resources": resources(content["resources"]),
            "security": Security(**security),
        }
    )


def save(path: Path, content: dict[str, Any]) -> None:
    """Write JSON whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(json.dumps(content).encode())
    os.replace(temporary, path)


def load(path: Path) -> dict[str, Any] | None:
    """What `save` wrote; None when there is nothing like it."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise  # it may be there, and fine: whoever takes it for gone would remove what it tells of
    return content if isinstance(content, dict) else None

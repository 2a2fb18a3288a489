"""Between our specs and the CRI's messages. Pure.

A CRI runtime makes up its own IDs and returns only labels and annotations of what it was asked for. So our ID is a
label, and our whole spec an annotation: a client that starts anew reads them back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tiphys.runtime import bundle, spec
from tiphys.runtime.connectivity import Bandwidth, PortMapping
from tiphys.runtime.cri import protocol
from tiphys.runtime.types import ContainerSpec, ContainerStatus, InvalidSpec, Mount, Resources, SandboxSpec, State

ID = "tiphys.io/id"
"""Label: the ID that the caller gave."""
SPEC = "tiphys.io/spec"
"""Annotation: the spec as JSON."""
RUNTIME = "tiphys.io/runtime"
"""Label of what is returned: the runtime's name."""

_STATES = {
    protocol.CREATED: State.CREATED,
    protocol.RUNNING: State.RUNNING,
    protocol.EXITED: State.EXITED,
    protocol.UNKNOWN: State.UNKNOWN,
}
_PROPAGATION = {"private": 0, "rslave": 1, "rshared": 2}
_SIGNALS = (
    *("RUNTIME_DEFAULT", "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT"),
    *("KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP"),
    *("TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN"),
)


def metadata(wanted: SandboxSpec) -> dict[str, Any]:
    """What the runtime shows of a sandbox: of pods what their labels say, else its ID."""
    labels = wanted.labels
    attempt = labels.get("io.kubernetes.sandbox.attempt", "0")
    return {
        "name": labels.get("io.kubernetes.pod.name", wanted.id),
        "uid": labels.get("io.kubernetes.pod.uid", wanted.id),
        "namespace": labels.get("io.kubernetes.pod.namespace", "default"),
        "attempt": int(attempt) if attempt.isdigit() else 0,
    }


def sandbox(wanted: SandboxSpec) -> dict[str, Any]:
    """PodSandboxConfig."""
    content = json.dumps(spec.plain(wanted))
    return {
        "metadata": metadata(wanted),
        "hostname": "" if wanted.network == "host" else wanted.hostname,
        "log_directory": "/",  # logs have paths of their own
        "labels": {**wanted.labels, ID: wanted.id},
        "port_mappings": [_port(each) for each in wanted.ports],
        "annotations": {SPEC: content, **_bandwidth(wanted.bandwidth)},
        "linux": {
            "cgroup_parent": f"/{wanted.cgroup_parent.strip('/')}" if wanted.cgroup_parent else "",
            "sysctls": dict(wanted.sysctls),
            "resources": resources(wanted.cgroup_resources),
            "security_context": {
                "namespace_options": namespaces(wanted),
                "seccomp": {"profile_type": protocol.RUNTIME_DEFAULT},
                "privileged": wanted.privileged,
            },
        },
    }


def _port(wanted: PortMapping) -> dict[str, Any]:
    return {
        "protocol": ("tcp", "udp", "sctp").index(wanted.protocol),
        "container_port": wanted.port,
        "host_port": wanted.host_port,
        "host_ip": wanted.host_address,
    }


def _bandwidth(wanted: Bandwidth) -> dict[str, str]:
    """Where CRI runtimes look for it."""
    rates = {"ingress": wanted.ingress, "egress": wanted.egress}
    return {f"kubernetes.io/{name}-bandwidth": str(rate) for name, rate in rates.items() if rate}


def namespaces(wanted: SandboxSpec, target: str = "") -> dict[str, Any]:
    """NamespaceOption of a sandbox and of its containers. `target`: whose processes a container is to see."""
    pid = protocol.NODE if wanted.host_pid else protocol.POD if wanted.share_pid else protocol.CONTAINER
    found: dict[str, Any] = {
        "network": protocol.NODE if wanted.network == "host" else protocol.POD,
        "pid": protocol.TARGET if target else pid,
        "ipc": protocol.NODE if wanted.host_ipc else protocol.POD,
        "target_id": target,
    }
    if mapping := _mapping(wanted):
        found["userns_options"] = {"mode": protocol.POD, "uids": mapping, "gids": mapping}
    return found


def _mapping(wanted: SandboxSpec) -> list[dict[str, int]]:
    if wanted.user_namespace is None:
        return []
    first, length = wanted.user_namespace
    return [{"host_id": first, "container_id": 0, "length": length}]


def resources(wanted: Resources) -> dict[str, Any]:
    """LinuxContainerResources."""
    return {
        "cpu_period": wanted.cpu_period if wanted.cpu_quota else 0,
        "cpu_quota": wanted.cpu_quota,
        "cpu_shares": wanted.cpu_shares,
        "memory_limit_in_bytes": wanted.memory_limit,
        "oom_score_adj": wanted.oom_score_adj,
        "cpuset_cpus": wanted.cpuset_cpus,
        "cpuset_mems": wanted.cpuset_mems,
        "hugepage_limits": [{"page_size": size, "limit": limit} for size, limit in wanted.hugepages],
        "unified": dict(wanted.unified),
        "memory_swap_limit_in_bytes": _swap(wanted),
    }


def _swap(wanted: Resources) -> int:
    """The CRI counts memory and swap together."""
    if wanted.memory_swap is None or wanted.memory_limit <= 0:
        return 0
    return -1 if wanted.memory_swap < 0 else wanted.memory_limit + wanted.memory_swap


def container(wanted: ContainerSpec, box: SandboxSpec, target: str = "") -> dict[str, Any]:
    """ContainerConfig. Raises InvalidSpec for what the CRI cannot say."""
    labels = wanted.labels
    attempt = labels.get("io.kubernetes.container.restartCount", "0")
    if wanted.rlimits:
        raise InvalidSpec("rlimits cannot be set over the CRI")
    return {
        "metadata": {
            "name": labels.get("io.kubernetes.container.name", wanted.id),
            "attempt": int(attempt) if attempt.isdigit() else 0,
        },
        "image": {"image": wanted.image},
        "command": list(wanted.argv),
        "working_dir": wanted.cwd,
        "envs": [{"key": name, "value": value.encode("utf-8", "surrogateescape")} for name, value in wanted.env],
        "mounts": [_mount(mount, box) for mount in wanted.mounts],
        "devices": [
            {"container_path": one.target, "host_path": one.source, "permissions": one.permissions}
            for one in wanted.devices
        ],
        "labels": {**labels, ID: wanted.id},
        "annotations": {SPEC: json.dumps(spec.plain(wanted))},
        "log_path": wanted.log_path.lstrip("/"),
        "stdin": wanted.stdin,
        "stdin_once": wanted.stdin_once,
        "tty": wanted.tty,
        "linux": {"resources": resources(wanted.resources), "security_context": _security(wanted, box, target)},
        "stop_signal": _signal(wanted.stop_signal),
    }


def _mount(mount: Mount, box: SandboxSpec) -> dict[str, Any]:
    if not mount.source and not mount.image:
        raise InvalidSpec(f"mount {mount.target}: the CRI has no file systems in memory")
    found = {
        "container_path": mount.target,
        "host_path": "" if mount.image else mount.source,
        "readonly": mount.readonly,
        "propagation": _PROPAGATION[mount.propagation],
        "recursive_read_only": mount.recursive_readonly,
    }
    if mount.image:
        found |= {"image": {"image": mount.image}, "image_sub_path": mount.source}
    if mapping := _mapping(box):
        found |= {"uid_mappings": mapping, "gid_mappings": mapping}
    return found


def _security(wanted: ContainerSpec, box: SandboxSpec, target: str) -> dict[str, Any]:
    security = wanted.security
    masked = bundle.masked() if security.masked_paths is None else security.masked_paths
    readonly = bundle.READONLY if security.readonly_paths is None else security.readonly_paths
    found: dict[str, Any] = {
        "capabilities": {
            "add_capabilities": list(security.add_capabilities),
            "drop_capabilities": list(security.drop_capabilities),
        },
        "privileged": security.privileged,
        "namespace_options": namespaces(box, target),
        "readonly_rootfs": security.readonly_rootfs,
        "supplemental_groups": list(wanted.supplemental_groups),
        "supplemental_groups_policy": int(wanted.strict_groups),
        "no_new_privs": security.no_new_privileges,
        "masked_paths": [] if security.privileged else list(masked),
        "readonly_paths": [] if security.privileged else list(readonly),
        "seccomp": _profile(security.seccomp),
    }
    if security.apparmor:
        found["apparmor"] = _profile(security.apparmor)
    return found | _user(wanted.user)


def _profile(name: str) -> dict[str, Any]:
    kinds = {"default": protocol.RUNTIME_DEFAULT, "unconfined": protocol.UNCONFINED}
    if name in kinds:
        return {"profile_type": kinds[name]}
    return {"profile_type": protocol.LOCALHOST, "localhost_ref": name}


def _user(text: str) -> dict[str, Any]:
    """ "" leaves it to the image."""
    name, _, group = text.partition(":")
    found: dict[str, Any] = {}
    if name:
        found |= {"run_as_user": {"value": int(name)}} if name.isdigit() else {"run_as_username": name}
    if group:
        if not group.isdigit():
            raise InvalidSpec(f"user {text!r}: the CRI takes groups by number only")
        found["run_as_group"] = {"value": int(group)}
    return found


def _signal(name: str) -> int:
    short = name.upper().removeprefix("SIG")
    return _SIGNALS.index(short) if short in _SIGNALS else 0


def status(message: Mapping[str, Any], runtime: str) -> ContainerStatus:
    """Of a ContainerStatus message; its spec has the runtime's ID in the place of the caller's."""
    known = read_spec(message["annotations"])
    wanted = spec.container(known) if known is not None else _foreign(message)
    reason = message["reason"]
    failed = message["message"] if reason in ("StartError", "ContainerCannotRun") else ""
    code = message["exit_code"]
    user = (message["user"] or {"linux": None})["linux"]
    return ContainerStatus(
        spec=replace(wanted, id=message["id"], labels={**wanted.labels, RUNTIME: runtime}),
        state=state(message["state"]),
        created_at=message["created_at"] / 1e9,
        started_at=message["started_at"] / 1e9,
        finished_at=message["finished_at"] / 1e9,
        exit_code=code,
        signal=code - 128 if 128 < code < 160 and not failed else 0,
        oom_killed=reason == "OOMKilled",
        error=failed,
        identity=(user["uid"], user["gid"], tuple(user["supplemental_groups"])) if user else None,
    )


def state(number: int) -> State:
    """Of a ContainerState."""
    return _STATES.get(number, State.UNKNOWN)


def _foreign(message: Mapping[str, Any]) -> ContainerSpec:
    """Of a container that somebody else made: what little is known."""
    return ContainerSpec(message["id"], "", message["image_ref"], ("",), labels=message["labels"])


def read_spec(annotations: Mapping[str, str]) -> dict[str, Any] | None:
    """Our spec, if there is one."""
    try:
        content = json.loads(annotations[SPEC])
    except (KeyError, ValueError):
        return None
    return content if isinstance(content, dict) else None

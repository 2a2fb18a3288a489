"""From a pod to what the runtime is asked for: SandboxSpec and ContainerSpec."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tiphys.kubelet import dns, files, labels
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.devices.grants import NOTHING, Grants
from tiphys.kubelet.downward import PodFacts
from tiphys.kubelet.env import ConfigError
from tiphys.kubelet.expansion import expand, expand_strictly
from tiphys.kubelet.instructions import StartContainer
from tiphys.kubelet.limits import ANY, Assigned, Rules, container_resources
from tiphys.kubelet.machine import Machine
from tiphys.kubelet.podnetwork import bandwidth, port_mappings
from tiphys.kubelet.podspec import Object, is_host_network, name_of, namespace_of, uid_of
from tiphys.kubelet.resources import qos_class
from tiphys.kubelet.security import may_be_privileged, security_of, strict_groups, supplemental_groups, user_of
from tiphys.kubelet.server import settings
from tiphys.kubelet.sysctls import sysctls_of
from tiphys.kubelet.unsupported import container_refusal
from tiphys.kubelet.volumes.manager import VolumeManager
from tiphys.kubelet.volumes.payload import VolumeError
from tiphys.kubelet.volumes.subpath import parts_of, prepare_subpath
from tiphys.runtime.types import ContainerSpec, Device, Image, Mount, Resources, SandboxSpec

BEHIND_LOCAL_SERVER = Path("/run/systemd/resolve/resolv.conf")
"""Whom systemd-resolved asks, which itself is told at 127.0.0.53."""

_PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}


def cgroup_parent(config: KubeletConfig, pod: Object) -> str:
    """kubepods/podUID, or below burstable or besteffort."""
    if not config.cgroups_per_qos:
        return f"{config.cgroup_root}/pod{uid_of(pod)}"
    qos = qos_class(pod)
    tier = "" if qos == "Guaranteed" else f"{qos.lower()}/"
    return f"{config.cgroup_root}/kubepods/{tier}pod{uid_of(pod)}"


def sandbox_spec(
    config: KubeletConfig, pod: Object, attempt: int, limits: Resources, user_namespace: tuple[int, int] | None = None
) -> SandboxSpec:
    """Of the pod's sandbox; the same for the same attempt. Raises InvalidSpec."""
    spec = pod["spec"]
    return SandboxSpec(
        id=labels.sandbox_id(uid_of(pod), attempt),
        hostname=files.kernel_hostname(pod, config.node_name, config.cluster_domain),
        network="host" if is_host_network(pod) else config.network,
        share_pid=bool(spec.get("shareProcessNamespace")),
        host_pid=bool(spec.get("hostPID")),
        host_ipc=bool(spec.get("hostIPC")),
        cgroup_parent=cgroup_parent(config, pod),
        cgroup_resources=limits,
        sysctls=sysctls_of(pod),
        labels=labels.pod_labels(pod, config.node_name) | {labels.ATTEMPT: str(attempt)},
        user_namespace=user_namespace,
        privileged=may_be_privileged(pod),
        ports=port_mappings(pod),
        bandwidth=bandwidth(pod),
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """What a container is made from, besides its spec."""

    config: KubeletConfig
    facts: PodFacts
    volumes: VolumeManager
    env: Mapping[str, str]
    image: Image
    sandbox: str
    machine: Machine
    rules: Rules
    target: str = ""
    """ID of the container whose processes it is to see."""
    grants: Grants = NOTHING
    """What plugins give it."""
    assigned: Assigned = ANY


def container_spec(setting: Setting, container: Object, wanted: StartContainer) -> ContainerSpec:
    """Raises ConfigError for what cannot be. Makes the files and directories that its mounts need."""
    config, pod = setting.config, setting.facts.pod
    uid, namespace, name = uid_of(pod), namespace_of(pod), name_of(pod)
    if refusal := container_refusal(pod, container, setting.machine.selinux):
        raise ConfigError(refusal)
    image = setting.image.config
    log_path = config.container_log(namespace, name, uid, container["name"], wanted.attempt)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    logs = settings.of(config.extra)
    message = _message_file(setting, container, wanted.attempt)
    return ContainerSpec(
        id=labels.container_id(uid, container["name"], wanted.attempt),
        sandbox=setting.sandbox,
        image=setting.image.id,
        argv=command_line(container, image.entrypoint, image.command, setting.env),
        env=merged_env(
            (("TERM", "xterm"), *image.env) if container.get("tty") else image.env,
            {**setting.grants.env, **setting.env},
            files.kernel_hostname(pod, config.node_name, config.cluster_domain),
        ),
        cwd=str(container.get("workingDir") or image.cwd or "/"),
        user=user_of(pod, container, image.user),
        supplemental_groups=(*supplemental_groups(pod), *setting.volumes.groups(pod)),
        mounts=_mounts(setting, container, message),
        devices=_devices(setting, container),
        strict_groups=strict_groups(pod),
        pid_of=setting.target,
        resources=container_resources(pod, container, setting.rules, setting.assigned),
        security=security_of(pod, container, str(config.root_dir / "seccomp"), config.seccomp_default),
        tty=bool(container.get("tty")),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        log_path=str(log_path),
        log_max_bytes=logs.log_max_bytes,
        log_max_files=logs.log_max_files,
        stop_signal=str((container.get("lifecycle") or {}).get("stopSignal") or image.stop_signal or ""),
        labels=_labels(setting, container, wanted, message),
    )


def command_line(
    container: Object, entrypoint: Sequence[str], command: Sequence[str], env: Mapping[str, str]
) -> tuple[str, ...]:
    """command replaces the image's entrypoint and command, args its command only. Raises ConfigError when empty."""
    own = [expand(str(word), env) for word in container.get("command") or ()]
    args = [expand(str(word), env) for word in container.get("args") or ()]
    words = (own + args) if own else [*entrypoint, *(args or command)]
    if not words:
        raise ConfigError("no command specified")
    return tuple(words)


def merged_env(image: Sequence[tuple[str, str]], own: Mapping[str, str], hostname: str) -> tuple[tuple[str, str], ...]:
    """The image's variables, overlaid with the container's; HOSTNAME and PATH have a default."""
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME": hostname}
    return tuple((env | dict(image) | dict(own)).items())


def _labels(setting: Setting, container: Object, wanted: StartContainer, message: Path | None) -> dict[str, str]:
    pod = setting.facts.pod
    digests = setting.image.digests
    return labels.pod_labels(pod, setting.config.node_name) | {
        labels.CONTAINER_NAME: container["name"],
        labels.RESTART_COUNT: str(wanted.attempt),
        labels.CONTAINER_HASH: labels.container_hash(container),
        labels.MESSAGE_PATH: str(container.get("terminationMessagePath") or ""),
        labels.MESSAGE_POLICY: str(container.get("terminationMessagePolicy") or "File"),
        labels.MESSAGE_FILE: str(message or ""),
        labels.IMAGE_NAME: _image_name(setting.image, container),
        labels.IMAGE_REFERENCE: digests[0] if digests else setting.image.id,
        labels.BACKOFF: str(wanted.backoff),
        **labels.resource_labels(pod, container),
        **_pre_stop(container),
    }


def _pre_stop(container: Object) -> dict[str, str]:
    """The preStop hook with the ports that it may name, for the day when its pod is gone from the API."""
    hook = (container.get("lifecycle") or {}).get("preStop")
    if not hook:
        return {}
    return {labels.PRE_STOP: json.dumps(hook), labels.PORTS: json.dumps(container.get("ports") or [])}


def _image_name(image: Image, container: Object) -> str:
    """The full reference of what was asked for, as runtimes report it."""
    asked = str(container.get("image", ""))
    tail = asked if ":" in asked.rpartition("/")[2] or "@" in asked else f"{asked}:latest"
    return next((tag for tag in image.tags if tag.endswith(tail)), asked)


def _message_file(setting: Setting, container: Object, attempt: int) -> Path | None:
    """An empty file for the termination message, one a run."""
    if not container.get("terminationMessagePath"):
        return None
    directory = setting.config.pod_dir(uid_of(setting.facts.pod)) / "containers" / str(container["name"])
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"termination-log-{attempt}"
    path.write_bytes(b"")
    path.chmod(0o666)
    return path


def _mounts(setting: Setting, container: Object, message: Path | None) -> tuple[Mount, ...]:
    mounts = [_volume_mount(setting, container, mount) for mount in container.get("volumeMounts") or ()]
    taken = {mount.target for mount in mounts}
    for target, source in _standard_files(setting):
        if target not in taken:
            mounts.append(Mount(target, str(source)))
    if message is not None:
        mounts.append(Mount(str(container["terminationMessagePath"]), str(message)))
    return tuple(mounts)


def _standard_files(setting: Setting) -> list[tuple[str, Path]]:
    config, pod = setting.config, setting.facts.pod
    directory = config.pod_dir(uid_of(pod))
    host_hosts = _read(Path("/etc/hosts")) if is_host_network(pod) else ""
    resolver, _ = pod_dns(config, pod)
    hostname = files.kernel_hostname(pod, config.node_name, config.cluster_domain)
    hosts = files.hosts_file(pod, setting.facts.pod_ips, config.cluster_domain, host_hosts)
    return [
        ("/etc/hosts", files.write(directory / "etc-hosts", hosts)),
        ("/etc/resolv.conf", files.write(directory / "etc-resolv.conf", resolver.text())),
        ("/etc/hostname", files.write(directory / "etc-hostname", hostname + "\n")),
    ]


def pod_dns(config: KubeletConfig, pod: Object) -> tuple[dns.Dns, tuple[dns.Complaint, ...]]:
    """The pod's name resolution, and what is to be said about it."""
    return dns.resolve(pod, _node_dns(config), config.cluster_dns, config.cluster_domain)


def _node_dns(config: KubeletConfig) -> dns.Dns:
    if config.resolv_conf is None:
        return dns.LOCAL
    host, behind = (dns.parse_resolv_conf(_read(path)) for path in (config.resolv_conf, BEHIND_LOCAL_SERVER))
    return dns.reachable(host, behind, config.cluster_dns)


def _read(path: Path | None) -> str:
    try:
        return path.read_text(errors="replace") if path is not None else ""
    except OSError:
        return ""


def _volume_mount(setting: Setting, container: Object, mount: Mapping[str, Any]) -> Mount:
    target, subpath = str(mount["mountPath"]), _subpath(setting, mount)
    try:
        if image := setting.volumes.image(setting.facts.pod, mount["name"]):
            inside = "/".join(parts_of(subpath)) if subpath else ""
            return Mount(target if target.startswith("/") else f"/{target}", inside, readonly=True, image=image)
        source = setting.volumes.path(setting.facts.pod, mount["name"])
        if subpath:
            source = prepare_subpath(source, subpath, mount["name"], container["name"])
    except VolumeError as error:
        raise ConfigError(str(error)) from error
    recursive = mount.get("recursiveReadOnly") in ("Enabled", "IfPossible")
    made = Mount(
        target=target if target.startswith("/") else f"/{target}",
        source=str(source),
        readonly=bool(mount.get("readOnly")) or setting.volumes.is_readonly(setting.facts.pod, mount["name"]),
        source_resolved=bool(subpath),
        propagation=_PROPAGATION.get(str(mount.get("mountPropagation")), "private"),
    )
    return replace(made, recursive_readonly=True) if mount.get("readOnly") and recursive else made


def _devices(setting: Setting, container: Object) -> tuple[Device, ...]:
    """Raw block volumes, as devices of the container's own."""
    made = []
    for device in container.get("volumeDevices") or ():
        try:
            volume = setting.volumes.device(setting.facts.pod, device["name"])
        except VolumeError as error:
            raise ConfigError(str(error)) from error
        made.append(Device(str(volume.path), str(device["devicePath"]), "r" if volume.readonly else "rwm"))
    return tuple(made)


def _subpath(setting: Setting, mount: Mapping[str, Any]) -> str:
    if expression := mount.get("subPathExpr"):
        try:
            return expand_strictly(str(expression), setting.env)
        except KeyError as error:
            raise ConfigError(f"missing value for {error.args[0]}") from error
    return str(mount.get("subPath") or "")

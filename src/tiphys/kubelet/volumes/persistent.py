"""Volumes that outlive their pods: directories and disks of this node, and NFS.

    ROOT_DIR/pods/UID/volumes/kubernetes.io~local-volume/PV           a directory with mount options
    ROOT_DIR/plugins/kubernetes.io/local-volume/mounts/PV             a disk with a file system, for all its pods
    ROOT_DIR/pods/UID/volumeDevices/kubernetes.io~local-volume/PV     a link to a raw device

A disk is taken off when the last pod with it has gone: who uses it is told by the mounts themselves. Sources:
"Volumes" (local, nfs), "Raw Block Volume Support" in the documentation.
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.base.clock import Clock
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.podspec import Object, name_of, uid_of
from tiphys.kubelet.volumes import mounts
from tiphys.kubelet.volumes.claims import Bound
from tiphys.kubelet.volumes.commands import format_and_mount, mount_by_command
from tiphys.kubelet.volumes.hostpath import prepare_host_path
from tiphys.kubelet.volumes.ownership import Count, give_to_group
from tiphys.kubelet.volumes.payload import VolumeError
from tiphys.kubelet.volumes.slowly import Say, with_progress

_NO_SOURCE = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)
"""Fields of a PersistentVolume's spec that do not say what it is."""


_attaching = threading.Lock()
"""Held between the mount of a disk and that of its first pod: meanwhile it looks unused."""
_MAP = "MapVolume.MapPodDevice failed"


@dataclass(frozen=True, slots=True)
class Attached:
    """Where a volume is on this node: a path to mount, or a device."""

    path: Path
    readonly: bool = False
    block: bool = False
    groups: tuple[int, ...] = ()
    name: str = ""
    """Of the PersistentVolume."""


async def attach(config: KubeletConfig, pod: Object, bound: Bound, clock: Clock, say: Say) -> Attached:
    """Set up what a claim is bound to; `say` is told of what takes long. Raises VolumeError, OSError."""
    source, name = bound.volume["spec"], name_of(bound.volume)
    options: Sequence[str] = source.get("mountOptions") or ()
    if "hostPath" in source and not bound.block:
        if options:
            raise VolumeError("mount options are not supported for this volume type")
        return Attached(prepare_host_path(source["hostPath"]), bound.readonly, False, bound.groups, name)
    if "nfs" in source and not bound.block:
        readonly = bound.readonly or bool(source["nfs"].get("readOnly"))
        path = await attach_nfs(config, pod, name, source["nfs"], options, readonly=readonly)
        return Attached(path, readonly, False, bound.groups, name)
    if "local" not in source:
        kind = next((field for field in source if field not in _NO_SOURCE), "unknown")
        raise VolumeError(f"persistent volumes of type {kind} are not supported by this node")
    path = Path(str(source["local"]["path"]))
    if ".." in path.parts:
        raise VolumeError(f"invalid path: {path} must not contain '..'")
    if bound.block:
        return Attached(_device(config, pod, name, path), bound.readonly, True, bound.groups, name)
    count = Count()
    work = asyncio.to_thread(_local, config, pod, bound, path, options, count)
    try:
        attached = await with_progress(work, str(path), count, clock, say)
    except* (VolumeError, OSError) as group:
        raise group.exceptions[0] from group
    detach_unused(config)
    return Attached(attached, bound.readonly, False, bound.groups, name)


def _kind(path: Path, step: str = "MountVolume.NewMounter initialization failed") -> int:
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError as error:
        raise VolumeError(f'path "{path}" does not exist', step) from error


def _device(config: KubeletConfig, pod: Object, name: str, path: Path) -> Path:
    """The block device itself; the link is for those who look which pods have it."""
    if _kind(path, _MAP) != stat.S_IFBLK:
        raise VolumeError(f"{path} is not a block device", _MAP)
    link = config.pod_dir(uid_of(pod)) / "volumeDevices" / "kubernetes.io~local-volume" / name
    link.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        link.symlink_to(path)
    return path


def _local(config: KubeletConfig, pod: Object, bound: Bound, path: Path, options: Sequence[str], count: Count) -> Path:
    """A directory of the node, or a disk that is mounted for it."""
    name = name_of(bound.volume)
    kind = _kind(path)
    if kind not in (stat.S_IFBLK, stat.S_IFDIR):
        text = "only directory and block device are supported"
        raise VolumeError(text, "MountVolume.NewMounter initialization failed")
    if options or kind == stat.S_IFBLK:
        target = _pod_path(config, pod, "kubernetes.io~local-volume", name)
        with _attaching:
            if kind == stat.S_IFBLK:
                path, options = _disk(config, bound, path, options), ()
            _show(path, target, [*options, *(["ro"] if bound.readonly else [])])
        path = target
    if not bound.readonly:
        _set_group(path, pod, count)
    return path


def _show(path: Path, target: Path, options: Sequence[str]) -> None:
    """A mount of its own for each pod: that is how the last user of a disk is known."""
    if not mounts.is_mount_point(target):
        target.mkdir(mode=0o750, parents=True, exist_ok=True)
        mounts.bind(path, target, options)


def _disk(config: KubeletConfig, bound: Bound, device: Path, options: Sequence[str]) -> Path:
    target = _disks(config) / name_of(bound.volume)
    if not mounts.is_mount_point(target):
        target.mkdir(mode=0o750, parents=True, exist_ok=True)
        kind = str(bound.volume["spec"]["local"].get("fsType") or "ext4")
        wanted = [*options, *(["ro"] if bound.readonly else [])]
        try:
            format_and_mount(device, target, kind, wanted)
        except VolumeError as error:
            target.rmdir()
            text = f"local: failed to mount device {device} at {target} (fstype: {kind}), error {error}"
            raise VolumeError(text, "MountVolume.MountDevice failed") from error
    return target


def _set_group(path: Path, pod: Object, count: Count) -> None:
    context: Mapping[str, Any] = pod["spec"].get("securityContext") or {}
    if context.get("fsGroup") is not None:
        always = context.get("fsGroupChangePolicy") != "OnRootMismatch"
        give_to_group(path, int(context["fsGroup"]), always=always, count=count)


async def attach_nfs(
    config: KubeletConfig, pod: Object, name: str, source: Mapping[str, Any], options: Sequence[str], *, readonly: bool
) -> Path:
    """An export, mounted by mount(8) with its helper mount.nfs. Raises VolumeError, OSError."""
    target = _pod_path(config, pod, "kubernetes.io~nfs", name)
    if not mounts.is_mount_point(target):
        target.mkdir(mode=0o750, parents=True, exist_ok=True)
        server = f"[{source['server']}]" if ":" in source["server"] else source["server"]
        wanted = [*options, *(["ro"] if readonly else [])]
        await asyncio.to_thread(mount_by_command, f"{server}:{source['path']}", target, "nfs", wanted)
    return target


def _pod_path(config: KubeletConfig, pod: Object, plugin: str, name: str) -> Path:
    return config.pod_dir(uid_of(pod)) / "volumes" / plugin / name


def _disks(config: KubeletConfig) -> Path:
    return config.root_dir / "plugins" / "kubernetes.io" / "local-volume" / "mounts"


def detach_unused(config: KubeletConfig) -> None:
    """Take off disks that no pod has mounted any more; later if one is just being mounted. Raises OSError."""
    if not _attaching.acquire(blocking=False):
        return
    try:
        _detach_unused(config)
    finally:
        _attaching.release()


def _detach_unused(config: KubeletConfig) -> None:
    base = Path(os.path.realpath(_disks(config)))
    if not base.is_dir():
        return
    points = mounts.mount_points()
    pods = Path(os.path.realpath(config.pods_dir))
    used = {point.device for point in points if pods in point.path.parents}
    for target in base.iterdir():
        mounted = [point for point in points if point.path == target]
        if any(point.device in used for point in mounted):
            continue
        for point in mounted:
            mounts.unmount(point.path)
        target.rmdir()

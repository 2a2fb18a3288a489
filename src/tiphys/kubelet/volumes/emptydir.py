"""emptyDir volumes: a directory that lives as long as its pod, on disk, in memory or in huge pages (core/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiphys.api.quantity import parse
from tiphys.kubelet.podspec import Object, init_containers, main_containers
from tiphys.kubelet.resources import pod_limits
from tiphys.kubelet.volumes import mounts
from tiphys.kubelet.volumes.ownership import give_to_group
from tiphys.kubelet.volumes.payload import VolumeError

_HUGE = "hugepages-"


def prepare_empty_dir(root: Path, ready: Path, source: Mapping[str, Any], pod: Object, memory: int) -> None:
    """Make it as it is asked for unless that is done; `ready` is a file that says so. `memory`: see `memory_size`;
    negative: nothing can be mounted here. Raises VolumeError, OSError."""
    medium = str(source.get("medium") or "")
    mounted = medium != "" and memory >= 0
    if ready.exists() and root.is_dir() and not (mounted and not mounts.is_mount_point(root)):
        return
    fresh = not root.exists()
    root.mkdir(mode=0o750, parents=True, exist_ok=True)
    root.chmod(0o777)
    if mounted and (fresh or not mounts.is_mount_point(root)):
        _mount(root, medium, source, pod, memory)
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    if group is not None:
        give_to_group(root, int(group), always=True)
    ready.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    ready.touch()


def _mount(root: Path, medium: str, source: Mapping[str, Any], pod: Object, memory: int) -> None:
    if medium == "Memory":
        mounts.mount_tmpfs(root, memory_size(source, pod, memory))
    elif medium.startswith("HugePages"):
        size = page_size(medium, pod)
        try:
            mounts.mount("nodev", root, "hugetlbfs", options=f"pagesize={size}")
        except OSError as error:
            raise VolumeError(f"cannot mount huge pages of {size} at {root}: {error.strerror}") from error
    else:
        raise VolumeError(f'unknown storage medium "{medium}"')


def memory_size(source: Mapping[str, Any], pod: Object, allocatable: int) -> int:
    """Bytes of a volume in memory: the least of its own limit, the pod's memory limit and the node's allocatable."""
    size = allocatable
    for bound in (_memory_limit(pod), parse(str(source.get("sizeLimit") or "0")).value):
        if bound > 0 and (bound <= size or size <= 0):
            size = bound
    return size


def _memory_limit(pod: Object) -> int:
    """Bytes that the pod as a whole may use; 0 without a limit."""
    whole = (pod["spec"].get("resources") or {}).get("limits") or {}
    containers = (*main_containers(pod), *init_containers(pod))
    if "memory" in whole or all("memory" in ((c.get("resources") or {}).get("limits") or {}) for c in containers):
        return pod_limits(pod)["memory"].value
    return 0


def page_size(medium: str, pod: Object) -> str:
    """The page size of a HugePages medium: its own, or that of all requests of the pod. Raises VolumeError."""
    askers = (pod["spec"], *main_containers(pod), *init_containers(pod))
    requests = [(one.get("resources") or {}).get("requests") or {} for one in askers]
    sizes: set[str] = {name.removeprefix(_HUGE) for request in requests for name in request if name.startswith(_HUGE)}
    wanted = medium.removeprefix("HugePages").removeprefix("-")
    if wanted:
        sizes = {size for size in sizes if parse(size).value == parse(wanted).value}
    if len(sizes) > 1:
        raise VolumeError(f"medium: {medium} can't be used if container requests multiple huge page sizes")
    if not sizes:
        text = "hugePages storage requested, but there is no resource request for huge pages"
        raise VolumeError(f"medium {medium}: {text}")
    return sizes.pop()

"""Which pod goes first. Pure.

Memory and disk: those that use more than they requested, then lower priority, then who exceeds its request most.
Processes: lower priority, then who has most. A pod of which nothing is known goes before others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from tiphys.kubelet.eviction import signals
from tiphys.kubelet.eviction.figures import NOTHING, PodFigures, Used
from tiphys.kubelet.podspec import Object, uid_of
from tiphys.kubelet.resources import pod_requests

Figures = Mapping[str, PodFigures]
"""By pod UID."""
Key = Callable[[Object, PodFigures | None], tuple[Any, ...]]

ROOT, LOGS, VOLUMES = "root", "logs", "volumes"
_EVERYTHING = frozenset((ROOT, LOGS, VOLUMES))


def rank(
    signal: str, pods: Iterable[Object], figures: Figures, measured: Collection[str] = _EVERYTHING
) -> list[Object]:
    """The pods, the first to go first. `measured` is what of their disk counts (see `measured_by`)."""
    resource = signals.RESOURCES[signal]
    keys: Mapping[str, Key] = {"memory": _memory, "pids": _processes}
    key = keys.get(resource) or _disk(resource, measured)
    return sorted(pods, key=lambda pod: key(pod, figures.get(uid_of(pod))))


def measured_by(signal: str, dedicated_images: bool, split: bool) -> frozenset[str]:
    """What a pod has on the file system that the signal is about."""
    if not dedicated_images:
        return _EVERYTHING
    images = signal in (signals.IMAGEFS, signals.IMAGEFS_INODES)
    nodefs = signal in (signals.NODEFS, signals.NODEFS_INODES)
    if split:
        return frozenset() if images else _EVERYTHING
    return frozenset((LOGS, VOLUMES)) if nodefs else frozenset((ROOT,))


def priority_of(pod: Object) -> int:
    return int(pod["spec"].get("priority") or 0)


def _requested(pod: Object, resource: str) -> int:
    amount = pod_requests(pod).get(resource)
    return amount.value if amount is not None else 0


def _memory(pod: Object, found: PodFigures | None) -> tuple[Any, ...]:
    if found is None:
        return (0, priority_of(pod), 0)
    over = found.memory - _requested(pod, "memory")
    return (1 if over > 0 else 2, priority_of(pod), -over)


def _processes(pod: Object, found: PodFigures | None) -> tuple[Any, ...]:
    return (priority_of(pod), 0 if found is None else 1, -(found.processes if found is not None else 0))


def _disk(resource: str, measured: Collection[str]) -> Key:
    def key(pod: Object, found: PodFigures | None) -> tuple[Any, ...]:
        if found is None:
            return (0, priority_of(pod), 0)
        used = disk_used(pod, found, measured)
        amount = used.bytes if resource == signals.STORAGE else used.inodes
        exceeds = amount > _requested(pod, resource)
        return (1 if exceeds else 2, priority_of(pod), _requested(pod, signals.STORAGE) - amount)

    return key


def disk_used(pod: Object, found: PodFigures, measured: Collection[str] = _EVERYTHING) -> Used:
    """The pod's part of the disk."""
    total = NOTHING
    for container in found.containers.values():
        total += (container.rootfs or NOTHING) if ROOT in measured else NOTHING
        total += (container.logs or NOTHING) if LOGS in measured else NOTHING
    if VOLUMES in measured:
        for name in local_volumes(pod):
            total += found.volumes.get(name, NOTHING)
    return total


def local_volumes(pod: Object) -> Sequence[str]:
    """Names of volumes that live on the node's own disk."""
    return [volume["name"] for volume in pod["spec"].get("volumes") or () if is_local(volume)]


def is_local(volume: Object) -> bool:
    empty = volume.get("emptyDir")
    on_disk = empty is not None and not empty.get("medium")
    return on_disk or any(kind in volume for kind in ("hostPath", "configMap", "gitRepo"))

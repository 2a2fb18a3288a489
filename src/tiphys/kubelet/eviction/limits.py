"""Limits of local storage that a pod exceeds: an emptyDir's, the pod's, a container's. Pure; texts are upstream's."""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.api.quantity import Quantity, from_units, parse
from tiphys.kubelet.eviction.figures import NOTHING, PodFigures
from tiphys.kubelet.eviction.signals import STORAGE
from tiphys.kubelet.podspec import Object, main_containers
from tiphys.kubelet.resources import amounts, pod_limits

_ZERO = from_units(0)


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that is exceeded; `signal` is what metrics call it."""

    signal: str
    message: str


def has_storage_limits(pod: Object) -> bool:
    """Whether its use of the disk is to be watched at all."""
    return STORAGE in pod_limits(pod) or any(_size_limits(pod)) or any(_container_limits(pod))


def exceeded(pod: Object, found: PodFigures, dedicated_images: bool = False) -> Excess | None:
    """The first limit that the pod exceeds."""
    return _empty_dir(pod, found) or _pod(pod, found) or _container(pod, found, dedicated_images)


def _size_limits(pod: Object) -> dict[str, Quantity]:
    """Of emptyDirs, those of tmpfs too: those the kernel holds by itself."""
    found = {}
    for volume in pod["spec"].get("volumes") or ():
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        if limit is not None and (size := parse(str(limit))) > _ZERO:
            found[str(volume["name"])] = size
    return found


def _empty_dir(pod: Object, found: PodFigures) -> Excess | None:
    for name, size in _size_limits(pod).items():
        used = found.volumes.get(name)
        if used is not None and used.bytes > size.value:
            return Excess("emptydirfs.limit", f'Usage of EmptyDir volume "{name}" exceeds the limit "{size}". ')
    return None


def _pod(pod: Object, found: PodFigures) -> Excess | None:
    limit = pod_limits(pod).get(STORAGE)
    if limit is None or found.storage is None or found.storage.bytes <= limit.value:
        return None
    text = f"Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
    return Excess("ephemeralpodfs.limit", text)


def _container_limits(pod: Object) -> dict[str, Quantity]:
    limits = {
        str(one["name"]): amounts((one.get("resources") or {}).get("limits")).get(STORAGE, _ZERO)
        for one in main_containers(pod)
    }
    return {name: limit for name, limit in limits.items() if limit > _ZERO}


def _container(pod: Object, found: PodFigures, dedicated_images: bool) -> Excess | None:
    for name, limit in _container_limits(pod).items():
        measured = found.containers.get(name)
        if measured is None:
            continue
        used = (measured.logs or NOTHING).bytes
        if not dedicated_images:
            used += (measured.rootfs or NOTHING).bytes
        if used > limit.value:
            text = f'Container {name} exceeded its local ephemeral storage limit "{limit}". '
            return Excess("ephemeralcontainerfs.limit", text)
    return None

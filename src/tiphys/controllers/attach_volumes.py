"""Which volumes of pods are attached to nodes by the control plane, and what they are called.

Upstream's names are wire-visible: the unique name `plugin/volume` stands in the statuses of nodes, and the name of a
VolumeAttachment is a hash that external attachers and kubelets work out too. CSI volumes have a VolumeAttachment
each; those of iSCSI and Fibre Channel are only written down as attached. Everything else needs no attaching.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers.objects import annotations_of, controlled_by, deleting, name, namespace, spec, status, uid

MANAGED = "volumes.kubernetes.io/controller-managed-attach-detach"
"""An annotation of nodes whose kubelets leave attaching to the control plane."""

CSI = "kubernetes.io/csi"
_SEPARATOR = "^"

Find = Callable[[str, str], Object | None]
"""Looks an object up in a cache, by namespace and name."""


class Unresolved(Exception):
    """What a pod asks for is not known yet: a claim without a volume, or a cache that is behind."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume that can be attached."""

    unique: str
    """plugin/name, as in the statuses of nodes."""
    name: str = "nil"
    """What messages call it: the PersistentVolume or the pod's own name for it; "nil" as long as nobody knows."""
    driver: str = ""
    handle: str = ""
    persistent_volume: str = ""
    shared: bool = True
    """Whether it may be attached to several nodes; what is not known is left to its driver to refuse."""

    @classmethod
    def recalled(cls, unique: str) -> Volume:
        """What is left to know of a volume that only a node's status tells of."""
        driver, _, handle = unique.removeprefix(f"{CSI}/").partition(_SEPARATOR)
        if unique.startswith(f"{CSI}/") and handle:
            return cls(unique, driver=driver, handle=handle)
        return cls(unique)

    @property
    def by_driver(self) -> bool:
        """Whether an external attacher does it, told by a VolumeAttachment."""
        return bool(self.driver)

    def attachment(self, node: str) -> str:
        """The name of its VolumeAttachment to `node`."""
        return "csi-" + hashlib.sha256(f"{self.handle}{self.driver}{node}".encode()).hexdigest()


def attachment_object(volume: Volume, node: str) -> dict[str, Any]:
    """The VolumeAttachment that asks the driver to attach `volume` to `node`."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttachment",
        "metadata": {"name": volume.attachment(node)},
        "spec": {
            "attacher": volume.driver,
            "nodeName": node,
            "source": {"persistentVolumeName": volume.persistent_volume},
        },
    }


def managed(node: Object) -> bool:
    return MANAGED in annotations_of(node)


def volumes_in_use(node: Object) -> frozenset[str]:
    """Unique names of what its kubelet has mounted, or is about to."""
    return frozenset(map(str, status(node).get("volumesInUse") or ()))


def wants_volumes(pod: Object) -> bool:
    """Whether the volumes of `pod` have to be on its node: it is there, and containers may still run."""
    if not spec(pod).get("nodeName") or status(pod).get("phase") in ("Succeeded", "Failed"):
        return False
    return not (deleting(pod) and not _may_run(pod))


def may_attach(pod: Object) -> bool:
    """Whether `pod` has volumes of a sort that could have to be attached; most have only such as tokens."""
    return any(not _SORTS.isdisjoint(volume) for volume in spec(pod).get("volumes") or ())


_SORTS = frozenset({"persistentVolumeClaim", "ephemeral", "iscsi", "fc"})


def _may_run(pod: Object) -> bool:
    for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for each in status(pod).get(field) or ():
            state = each.get("state") or {}
            if not state.get("terminated") and not state.get("waiting"):
                return True
    return False


def claim_names(pod: Object) -> Iterable[tuple[Mapping[str, Any], str]]:
    """Each volume in the pod's spec with the name of its claim, or ""."""
    for volume in spec(pod).get("volumes") or ():
        if volume.get("ephemeral"):
            yield volume, f"{name(pod)}-{volume['name']}"
        else:
            yield volume, str((volume.get("persistentVolumeClaim") or {}).get("claimName") or "")


def claim_keys(pod: Object) -> list[str]:
    """An Indexer: keys of the claims that a pod uses."""
    return [f"{namespace(pod)}/{claim}" for _, claim in claim_names(pod) if claim]


def resolve(pod: Object, volume: Mapping[str, Any], claim: str, claims: Find, volumes: Find) -> Volume | None:
    """What is to be attached for one volume of a pod; None if nothing is. Raises Unresolved."""
    if not claim:
        return _of_source(str(volume.get("name") or ""), volume, (), "")
    held = claims(namespace(pod), claim)
    if held is None or status(held).get("phase") != "Bound" or not spec(held).get("volumeName"):
        raise Unresolved(claim)
    if volume.get("ephemeral") and not controlled_by(held, pod):
        raise Unresolved(claim)
    persistent = volumes("", str(spec(held)["volumeName"]))
    if persistent is None or (spec(persistent).get("claimRef") or {}).get("uid") != uid(held):
        raise Unresolved(claim)
    return of_persistent_volume(persistent)


def of_persistent_volume(persistent: Object) -> Volume | None:
    """The volume behind a PersistentVolume, if it is of a kind that is attached."""
    modes = spec(persistent).get("accessModes") or ()
    return _of_source(name(persistent), spec(persistent), modes, name(persistent))


def _of_source(called: str, source: Mapping[str, Any], modes: Iterable[str], persistent: str) -> Volume | None:
    shared = not modes or any(mode in ("ReadWriteMany", "ReadOnlyMany") for mode in modes)
    if (csi := source.get("csi")) and persistent:
        driver, handle = str(csi.get("driver") or ""), str(csi.get("volumeHandle") or "")
        unique = f"{CSI}/{driver}{_SEPARATOR}{handle}"
        return Volume(unique, called, driver, handle, persistent, shared)
    if iscsi := source.get("iscsi"):
        portal, lun = str(iscsi.get("targetPortal") or ""), iscsi.get("lun") or 0
        return Volume(f"kubernetes.io/iscsi/{portal}:{iscsi.get('iqn')}:{lun}", called, shared=shared)
    if channel := source.get("fc"):
        wide, ids = channel.get("targetWWNs") or (), channel.get("wwids") or ()
        if wide and channel.get("lun") is not None:
            return Volume(f"kubernetes.io/fc/[{' '.join(wide)}]:{channel['lun']}", called, shared=shared)
        return Volume(f"kubernetes.io/fc/[{' '.join(ids)}]" if ids else "kubernetes.io/fc/", called, shared=shared)
    return None


def skips_attach(driver: Object | None) -> bool:
    """Whether a CSIDriver says that its volumes need no attaching."""
    return driver is not None and spec(driver).get("attachRequired") is False

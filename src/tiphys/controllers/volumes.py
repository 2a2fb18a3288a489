"""Reading PersistentVolumes, claims and storage classes: the annotations that tell their story, and small questions.

Used by every controller of storage. Nothing here does I/O. Source: the API reference (PersistentVolume,
PersistentVolumeClaim, StorageClass) and the well-known labels, annotations and taints page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api.quantity import ZERO, Quantity, parse
from tiphys.client.types import Object
from tiphys.controllers.objects import (
    annotations_of,
    controlled_by,
    created,
    deleting,
    name,
    namespace,
    spec,
    status,
    uid,
)

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
MIGRATED_TO = "pv.kubernetes.io/migrated-to"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
PRE_RESIZE_CAPACITY = "volume.alpha.kubernetes.io/pre-resize-capacity"
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")

AVAILABLE, BOUND, RELEASED, FAILED, PENDING, LOST = "Available", "Bound", "Released", "Failed", "Pending", "Lost"
RETAIN, DELETE, RECYCLE = "Retain", "Delete", "Recycle"

CSI_DRIVERS: Mapping[str, str] = {
    "kubernetes.io/aws-ebs": "ebs.csi.aws.com",
    "kubernetes.io/azure-disk": "disk.csi.azure.com",
    "kubernetes.io/azure-file": "file.csi.azure.com",
    "kubernetes.io/cinder": "cinder.csi.openstack.org",
    "kubernetes.io/gce-pd": "pd.csi.storage.gke.io",
    "kubernetes.io/portworx-volume": "pxd.portworx.com",
    "kubernetes.io/vsphere-volume": "csi.vsphere.vmware.com",
}
"""Volume plugins of old whose work CSI drivers do now (KEP-625), by name."""

_MODES = {"ReadWriteOnce": 0, "ReadOnlyMany": 1, "ReadWriteMany": 2, "ReadWriteOncePod": 3}


def class_of_claim(claim: Object) -> str:
    """The StorageClass that a claim asks for; the annotation of old comes first."""
    annotations = annotations_of(claim)
    return annotations[BETA_CLASS] if BETA_CLASS in annotations else spec(claim).get("storageClassName") or ""


def has_class(claim: Object) -> bool:
    """Whether the user said something about the class, be it that there shall be none."""
    return BETA_CLASS in annotations_of(claim) or spec(claim).get("storageClassName") is not None


def class_of_volume(volume: Object) -> str:
    annotations = annotations_of(volume)
    return annotations[BETA_CLASS] if BETA_CLASS in annotations else spec(volume).get("storageClassName") or ""


def attributes_class(held: Object) -> str:
    """The VolumeAttributesClass of a claim or a volume."""
    return spec(held).get("volumeAttributesClassName") or ""


def volume_mode(held: Object) -> str:
    """Filesystem or Block."""
    return spec(held).get("volumeMode") or "Filesystem"


def access_modes(held: Object) -> tuple[str, ...]:
    """Access modes of a claim or a volume, each once, in one order."""
    known = {mode for mode in spec(held).get("accessModes") or () if mode in _MODES}
    return tuple(sorted(known, key=_MODES.__getitem__))


def quantity(text: Any) -> Quantity:
    """An amount of storage; nothing and what is no amount count as none."""
    try:
        return parse(str(text)) if text else ZERO
    except ValueError:
        return ZERO


def capacity(volume: Object) -> Quantity:
    return quantity((spec(volume).get("capacity") or {}).get("storage"))


def requested(claim: Object) -> Quantity:
    return quantity(((spec(claim).get("resources") or {}).get("requests") or {}).get("storage"))


def granted(claim: Object) -> Quantity:
    """What the claim's status says that it has."""
    return quantity((status(claim).get("capacity") or {}).get("storage"))


def claim_ref(volume: Object) -> Mapping[str, Any] | None:
    """The reference to the claim that the volume is bound to or kept for."""
    found: Mapping[str, Any] | None = spec(volume).get("claimRef")
    return found or None


def claim_key(volume: Object) -> str:
    """The key of the claim that the volume refers to; "" without one."""
    ref = claim_ref(volume)
    return f"{ref.get('namespace') or ''}/{ref.get('name') or ''}" if ref else ""


def is_bound_to(volume: Object, claim: Object) -> bool:
    """Whether the volume is bound to this claim, or kept for one of its name."""
    ref = claim_ref(volume)
    if ref is None or ref.get("name") != name(claim) or (ref.get("namespace") or "") != namespace(claim):
        return False
    return ref.get("uid") in (None, "", uid(claim))


def is_default_class(storage_class: Object) -> bool:
    annotations = annotations_of(storage_class)
    return any(annotations.get(key) == "true" for key in DEFAULT_CLASS)


def default_class(classes: Iterable[Object]) -> Object | None:
    """The newest of the default classes, the first by name of equally new ones."""
    return min(filter(is_default_class, classes), key=lambda each: (-created(each), name(each)), default=None)


def waits_for_consumer(storage_class: Object | None) -> bool:
    """Whether claims of the class are bound when the first pod uses them."""
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def ephemeral_claim_name(pod: Object, volume: Mapping[str, Any]) -> str:
    """The name of the claim that is made for a pod's generic ephemeral volume."""
    return f"{name(pod)}-{volume.get('name')}"


def claims_of(pod: Object) -> Iterable[str]:
    """Keys of the claims that a pod names, those made for its ephemeral volumes included: an Indexer."""
    for volume in spec(pod).get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            yield f"{namespace(pod)}/{volume['persistentVolumeClaim'].get('claimName')}"
        elif volume.get("ephemeral") is not None:
            yield f"{namespace(pod)}/{ephemeral_claim_name(pod, volume)}"


def names_claim(pod: Object, claim: Object) -> bool:
    """Whether a volume of the pod, not an ephemeral one, is this claim by name."""
    volumes = spec(pod).get("volumes") or ()
    return any((each.get("persistentVolumeClaim") or {}).get("claimName") == name(claim) for each in volumes)


def owns_claim(pod: Object, claim: Object) -> bool:
    """Whether the claim was made for an ephemeral volume of this pod."""
    volumes = (each for each in spec(pod).get("volumes") or () if each.get("ephemeral") is not None)
    return any(ephemeral_claim_name(pod, each) == name(claim) for each in volumes) and controlled_by(claim, pod)


_CONTAINERS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def terminated(pod: Object) -> bool:
    """Whether the pod is over, or is being deleted and none of its containers runs."""
    if status(pod).get("phase") in ("Succeeded", "Failed"):
        return True
    if not deleting(pod):
        return False
    states = (each.get("state") or {} for kind in _CONTAINERS for each in status(pod).get(kind) or ())
    return all(state.get("terminated") is not None or state.get("waiting") is not None for state in states)

"""What binding changes in a volume and in a claim, and what undoing it does: pure functions from object to object.

The volume is written before the claim. Whatever happens between the two writes, the volume's reference with the
claim's uid is the record of who owns the data. None means that nothing has to be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.quantity import is_quantity
from tiphys.base.errors import Permanent
from tiphys.client.events import reference
from tiphys.client.types import Object
from tiphys.controllers.objects import (
    annotations_of,
    finalizers,
    name,
    namespace,
    semantically_equal,
    spec,
    status,
    uid,
)
from tiphys.controllers.volumes import (
    BETA_PROVISIONER,
    BIND_COMPLETED,
    BOUND,
    BOUND_BY_CONTROLLER,
    CSI_DRIVERS,
    DELETE,
    MIGRATED_TO,
    PENDING,
    PRE_RESIZE_CAPACITY,
    PROVISIONED_BY,
    PROVISIONER,
    SELECTED_NODE,
    capacity,
    claim_ref,
    granted,
    is_bound_to,
)

IN_TREE_FINALIZER = "kubernetes.io/pv-controller"
EXTERNAL_FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
IN_TREE = "kubernetes.io/"


def bound_volume(volume: Object, claim: Object) -> Object | None:
    """The volume with a complete reference to its claim; marked as our choice unless it was kept for the claim."""
    changes: dict[str, str] = {}
    if not is_bound_to(volume, claim) and BOUND_BY_CONTROLLER not in annotations_of(volume):
        changes[BOUND_BY_CONTROLLER] = "yes"
    ref = claim_ref(volume) or {}
    complete = (
        ref.get("name") == name(claim)
        and (ref.get("namespace") or "") == namespace(claim)
        and ref.get("uid") == uid(claim)
    )
    if complete and not changes:
        return None
    new_ref = ref if complete else reference(claim)
    return _annotated({**volume, "spec": {**spec(volume), "claimRef": new_ref}}, changes)


def bound_claim(claim: Object, volume: Object) -> Object | None:
    """The claim that names its volume and is marked as bound once and for all."""
    marks, annotations = {}, annotations_of(claim)
    if spec(claim).get("volumeName") != name(volume) and BOUND_BY_CONTROLLER not in annotations:
        marks[BOUND_BY_CONTROLLER] = "yes"
    if BIND_COMPLETED not in annotations:
        marks[BIND_COMPLETED] = "yes"
    if not marks and spec(claim).get("volumeName") == name(volume):
        return None
    return _annotated({**claim, "spec": {**spec(claim), "volumeName": name(volume)}}, marks)


def unbound_volume(volume: Object) -> Object:
    """The volume without our choice; one that a user kept for a claim stays kept, without the uid."""
    if BOUND_BY_CONTROLLER in annotations_of(volume):
        free = {key: value for key, value in spec(volume).items() if key != "claimRef"}
        return _annotated({**volume, "spec": free}, {}, BOUND_BY_CONTROLLER)
    kept = {key: value for key, value in (claim_ref(volume) or {}).items() if key != "uid"}
    return {**volume, "spec": {**spec(volume), "claimRef": kept}}


def claim_status(claim: Object, phase: str, volume: Object | None = None) -> Mapping[str, Any] | None:
    """The status of a claim in `phase`, with what its volume gives.

    The capacity follows the volume's only when the claim becomes bound: a difference afterwards is an expansion in
    progress. Raises Permanent if the volume has no capacity.
    """
    old = status(claim)
    new: dict[str, Any] = {**old, "phase": phase}
    if volume is None:
        for field in ("accessModes", "capacity", "currentVolumeAttributesClassName"):
            new.pop(field, None)
    else:
        new["accessModes"] = list(spec(volume).get("accessModes") or ())
        if old.get("phase") != phase:
            new["capacity"] = _capacity(claim, volume)
        if old.get("phase") == PENDING and phase == BOUND:
            new["currentVolumeAttributesClassName"] = spec(volume).get("volumeAttributesClassName")
    return None if semantically_equal(new, old) else {key: value for key, value in new.items() if value is not None}


def volume_status(volume: Object, phase: str, message: str = "") -> Mapping[str, Any] | None:
    """The status of a volume that enters `phase`; None if it is in it."""
    old = status(volume)
    if old.get("phase") == phase:
        return None
    kept = {key: value for key, value in old.items() if key != "message"}
    return {**kept, "phase": phase, **({"message": message} if message else {})}


def with_provisioner(claim: Object, provisioner: str) -> Object | None:
    """The claim with the name of who is to make its volume."""
    if annotations_of(claim).get(PROVISIONER) == provisioner:
        return None
    marked = _annotated(claim, {BETA_PROVISIONER: provisioner, PROVISIONER: provisioner})
    return migrated_claim(marked) or marked


def without_selected_node(claim: Object) -> Object | None:
    """The claim for which the scheduler is to choose another node."""
    return _annotated(claim, {}, SELECTED_NODE) if SELECTED_NODE in annotations_of(claim) else None


def migrated_claim(claim: Object) -> Object | None:
    """The claim with the right name of the CSI driver that does its plugin's work."""
    annotations = annotations_of(claim)
    return _migrated(claim, annotations.get(PROVISIONER, annotations.get(BETA_PROVISIONER)))


def migrated_volume(volume: Object) -> Object | None:
    """The volume with the right name of that driver, and the finalizers that go with who deletes it."""
    provisioner = annotations_of(volume).get(PROVISIONED_BY)
    if provisioner is None:
        return None
    moved = _migrated(volume, provisioner)
    wanted = _finalizers(volume, provisioner)
    if wanted == list(finalizers(volume)):
        return moved
    new = moved or volume
    return {**new, "metadata": {**new["metadata"], "finalizers": wanted}}


def _migrated(obj: Object, provisioner: str | None) -> Object | None:
    if provisioner is None:
        return None
    current, driver = annotations_of(obj).get(MIGRATED_TO, ""), CSI_DRIVERS.get(provisioner, "")
    if current == driver:
        return None
    return _annotated(obj, {MIGRATED_TO: driver}) if driver else _annotated(obj, {}, MIGRATED_TO)


def _finalizers(volume: Object, provisioner: str) -> list[str]:
    """Only what an in-tree plugin deletes carries our finalizer, and then nobody else's."""
    present = list(finalizers(volume))
    if provisioner in CSI_DRIVERS:
        return [each for each in present if each != IN_TREE_FINALIZER]
    if not provisioner.startswith(IN_TREE):
        return present
    policy = spec(volume).get("persistentVolumeReclaimPolicy")
    if policy == DELETE and IN_TREE_FINALIZER not in present:
        present.append(IN_TREE_FINALIZER)
    elif policy in ("Retain", "Recycle"):
        present = [each for each in present if each != IN_TREE_FINALIZER]
    return [each for each in present if each != EXTERNAL_FINALIZER]


def _capacity(claim: Object, volume: Object) -> Mapping[str, str]:
    given = spec(volume).get("capacity") or {}
    if "storage" not in given:
        raise Permanent(f'PersistentVolume "{name(volume)}" is without a storage capacity')
    before = annotations_of(volume).get(PRE_RESIZE_CAPACITY)
    old: Mapping[str, str] = status(claim).get("capacity") or {}
    if before is not None:
        return {**old, "storage": before if is_quantity(before) else given["storage"]}
    return old if "storage" in old and granted(claim) == capacity(volume) else given


def _annotated(obj: Object, marks: Mapping[str, str], without: str = "") -> Object:
    annotations = {key: value for key, value in annotations_of(obj).items() if key != without} | dict(marks)
    meta = {key: value for key, value in obj["metadata"].items() if key != "annotations"}
    return {**obj, "metadata": {**meta, **({"annotations": annotations} if annotations else {})}}

"""PersistentVolume (API reference, core/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.amounts import round_up
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import StatusKind, child, fill_empty, setdefaults
from tiphys.api.kinds.deprecations import requirement_warnings
from tiphys.api.kinds.podspec import default_volume_source
from tiphys.api.validation.errors import IMMUTABLE, Errors
from tiphys.api.validation.goform import difference, shown
from tiphys.api.validation.metadata import validate_metadata
from tiphys.api.validation.persistent_volumes import SOURCES, volume_spec
from tiphys.base.clock import rfc3339

Struct = Mapping[str, Any]

BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
MOUNT_OPTIONS = "volume.beta.kubernetes.io/mount-options"
_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_MOUNTED = (
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
)
_ANNOTATIONS = {
    BETA_CLASS: 'deprecated since v1.8; use "storageClassName" attribute instead',
    MOUNT_OPTIONS: 'deprecated since v1.31; use "mountOptions" attribute instead',
}
_GONE = {
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "storageOS": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_RENAMED = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}
_RECYCLE = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."


class PersistentVolume(StatusKind):
    plural, kind = "persistentvolumes", "PersistentVolume"
    counts_generation = False
    revalidates_metadata = True
    columns = (
        printing.NAME,
        Column("Capacity", description="@PersistentVolumeSpec.capacity"),
        Column("Access Modes", description="@PersistentVolumeSpec.accessModes"),
        Column("Reclaim Policy", description="@PersistentVolumeSpec.persistentVolumeReclaimPolicy"),
        Column("Status", description="@PersistentVolumeStatus.phase"),
        Column("Claim", description="@PersistentVolumeSpec.claimRef"),
        Column("StorageClass", description="StorageClass of the pv"),
        Column("VolumeAttributesClass", description="VolumeAttributesClass of the pv"),
        Column("Reason", description="@PersistentVolumeStatus.reason"),
        printing.AGE,
        Column("VolumeMode", description="@PersistentVolumeSpec.volumeMode", priority=1),
    )

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        fill_empty(child(obj, "status"), phase="Pending")
        fill_empty(spec, persistentVolumeReclaimPolicy="Retain")
        setdefaults(spec, volumeMode="Filesystem")
        default_volume_source(spec)
        round_up(spec, "capacity")

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": rfc3339(context.now)}

    def prepare_status_update(self, new: MutableObject, old: Object, context: Context) -> None:
        """The moment of a change of phase is kept, and set when the client does not."""
        status, was = child(new, "status"), old.get("status") or {}
        same, moment = status.get("phase") == was.get("phase"), status.get("lastPhaseTransitionTime")
        if same and moment is None and was.get("lastPhaseTransitionTime"):
            status["lastPhaseTransitionTime"] = was["lastPhaseTransitionTime"]
        elif not same and moment in (None, was.get("lastPhaseTransitionTime")):
            status["lastPhaseTransitionTime"] = rfc3339(context.now)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec = obj.get("spec") or {}
        volume_spec(errors, "spec", spec, printing.name(obj))
        annotations = (obj.get("metadata") or {}).get("annotations") or {}
        if MOUNT_OPTIONS in annotations and not any(spec.get(name) is not None for name in _MOUNTED):
            errors.forbidden(
                f"metadata.annotations.{MOUNT_OPTIONS}", "may not specify mount options for this volume type"
            )

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self.check(errors, new, context)
        # The rules for a new volume are asked twice, and answers show what is wrong twice.
        errors.extend(validate_metadata(new, self.name_check, namespaced=False))
        volume_spec(errors, "spec", new.get("spec") or {}, printing.name(new))
        spec, was = new.get("spec") or {}, old.get("spec") or {}
        _same_source(errors, spec, was)
        errors.immutable("volumeMode", spec.get("volumeMode"), was.get("volumeMode"))
        affinity, earlier = spec.get("nodeAffinity"), was.get("nodeAffinity")
        if earlier is not None and _renamed(earlier, affinity) != affinity:
            value = None if affinity is None else shown("VolumeNodeAffinity", affinity)
            errors.invalid("nodeAffinity", value, f"{IMMUTABLE}, except for updating from beta label to GA")
        if was.get("volumeAttributesClassName") is not None and spec.get("volumeAttributesClassName") is None:
            errors.forbidden("spec.volumeAttributesClassName", "update from non-nil value to nil is forbidden")

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        spec, annotations = obj.get("spec") or {}, (obj.get("metadata") or {}).get("annotations") or {}
        found = [f"metadata.annotations[{key}]: {text}" for key, text in _ANNOTATIONS.items() if key in annotations]
        if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
            found.append(f"spec.persistentVolumeReclaimPolicy: {_RECYCLE}")
        terms = ((spec.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or ()
        for i, term in enumerate(terms):
            path = f"spec.nodeAffinity.required.nodeSelectorTerms[{i}].matchExpressions"
            found += requirement_warnings(term.get("matchExpressions"), path)
        return found + [
            f"spec.{name}: {text}" for name, text in _GONE.items() if spec.get(name.lower()) or spec.get(name)
        ]

    def fields(self, obj: Object) -> Mapping[str, str]:
        return {"name": printing.name(obj)}

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        claim, meta = spec.get("claimRef"), obj.get("metadata") or {}
        return [
            printing.name(obj),
            str((spec.get("capacity") or {}).get("storage", "0")),
            modes_text(spec.get("accessModes")),
            spec.get("persistentVolumeReclaimPolicy", ""),
            "Terminating" if meta.get("deletionTimestamp") else status.get("phase", ""),
            f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
            class_of(obj),
            attributes_class_of(obj),
            status.get("reason", ""),
            printing.age(obj, now),
            spec.get("volumeMode") or printing.UNSET,
        ]


def modes_text(modes: list[str] | None) -> str:
    """Access modes by their abbreviations, in one order, each once."""
    return ",".join(short for mode, short in _MODES.items() if mode in (modes or ()))


def class_of(obj: Object) -> str:
    """The StorageClass of a volume or a claim; the old annotation comes first."""
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(BETA_CLASS) or (obj.get("spec") or {}).get("storageClassName") or "")


def attributes_class_of(obj: Object) -> str:
    name = (obj.get("spec") or {}).get("volumeAttributesClassName")
    return printing.UNSET if name is None else str(name)


def _same_source(errors: Errors, spec: Struct, was: Struct) -> None:
    new, old = ({name: part.get(name) for name in SOURCES} for part in (spec, was))
    csi, earlier = new["csi"], old["csi"]
    if csi and earlier and earlier.get("controllerExpandSecretRef") is None:
        new["csi"] = {name: value for name, value in csi.items() if name != "controllerExpandSecretRef"}
    if new != old:
        changes = difference("PersistentVolumeSource", old, new)
        detail = f"spec.persistentvolumesource is immutable after creation\n{changes}"
        errors.forbidden("spec.persistentvolumesource", detail)


def _renamed(old: Struct, new: Struct | None) -> Any:
    """`old` with those labels renamed that `new` has under their later names."""
    renamed = deepcopy(old)
    for mine, theirs in zip(_expressions(renamed), _expressions(new or {}), strict=False):
        for one, other in zip(mine, theirs, strict=False):
            # A key without a later name may become empty: so upstream's table answers.
            if other.get("key", "") == _RENAMED.get(one.get("key", ""), ""):
                one["key"] = other.get("key", "")
    return renamed


def _expressions(affinity: Any) -> list[list[Any]]:
    terms = (affinity.get("required") or {}).get("nodeSelectorTerms") or ()
    return [term.get("matchExpressions") or [] for term in terms]

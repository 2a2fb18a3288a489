"""The spec of a PersistentVolume; VolumeAttachments may carry one inline."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from tiphys.api.quantity import parse
from tiphys.api.validation import volume_sources as sources
from tiphys.api.validation.claims import VOLUME_MODES, access_modes, class_name
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import node_selector
from tiphys.api.validation.paths import no_backsteps
from tiphys.api.validation.quantities import amount

Struct = Mapping[str, Any]

RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
_ONE_TYPE = "may not specify more than 1 volume type"
_INLINE = "may not be specified in the context of inline volumes"


def _local(errors: Errors, path: str, source: Struct, owner: str) -> None:
    if errors.non_empty(f"{path}.path", source.get("path")):
        no_backsteps(errors, f"{path}.path", source["path"])


SOURCES: Mapping[str, sources.SourceCheck] = {
    "hostPath": sources.host_path,
    "gcePersistentDisk": sources.gce_disk,
    "awsElasticBlockStore": sources.aws_disk,
    "glusterfs": sources.glusterfs_persistent,
    "flocker": sources.flocker,
    "nfs": sources.nfs,
    "rbd": sources.needs("monitors", "image"),
    "quobyte": sources.quobyte,
    "cephfs": sources.needs("monitors"),
    "iscsi": sources.iscsi_persistent,
    "cinder": sources.cinder_persistent,
    "fc": sources.fibre_channel,
    "flexVolume": sources.flex,
    "azureFile": sources.azure_file_persistent,
    "vsphereVolume": sources.needs("volumePath"),
    "photonPersistentDisk": sources.needs("pdID"),
    "portworxVolume": sources.needs("volumeID"),
    "azureDisk": sources.azure_disk,
    "scaleIO": sources.needs("gateway", "system", "volumeName"),
    "local": _local,
    "storageos": sources.storageos_persistent,
    "csi": sources.csi_persistent,
}
"""In the order that they are looked at: with two of them the second is the one too many."""
_MORE_THAN_ONE = {"cephfs": "cephFS"}


def volume_spec(errors: Errors, path: str, spec: Struct, owner: str) -> None:
    """The spec of the PersistentVolume called `owner`."""
    modes = spec.get("accessModes") or []
    errors.non_empty(f"{path}.accessModes", modes)
    access_modes(errors, f"{path}.accessModes", modes)
    _capacity(errors, f"{path}.capacity", spec.get("capacity"))
    policy = spec.get("persistentVolumeReclaimPolicy")
    errors.one_of(f"{path}.persistentVolumeReclaimPolicy", policy or None, RECLAIM_POLICIES)
    if (affinity := spec.get("nodeAffinity")) is not None:
        _node_affinity(errors, f"{path}.nodeAffinity", affinity)
    _source(errors, path, spec, owner)
    class_name(errors, f"{path}.storageClassName", spec.get("storageClassName"))
    errors.one_of(f"{path}.volumeMode", spec.get("volumeMode"), VOLUME_MODES)
    _attributes_class(errors, path, spec)


def inline_volume_spec(errors: Errors, path: str, spec: Struct) -> None:
    """A spec without a PersistentVolume around it: only CSI has them."""
    for name in ("claimRef", "capacity"):
        if spec.get(name):
            errors.forbidden(f"{path}.{name}", _INLINE)
    if spec.get("csi") is None:
        errors.required(f"{path}.csi", "has to be specified in the context of inline volumes")
    modes = spec.get("accessModes") or []
    errors.non_empty(f"{path}.accessModes", modes)
    access_modes(errors, f"{path}.accessModes", modes)
    if spec.get("persistentVolumeReclaimPolicy") not in (None, "", "Retain"):
        detail = "may only be Retain in the context of inline volumes"
        errors.forbidden(f"{path}.persistentVolumeReclaimPolicy", detail)
    if spec.get("nodeAffinity") is not None:
        errors.forbidden(f"{path}.nodeAffinity", _INLINE)
    _source(errors, path, spec, "")
    if spec.get("storageClassName"):
        errors.forbidden(f"{path}.storageClassName", _INLINE)
    if spec.get("volumeMode") not in (None, "Filesystem"):
        detail = "may not specify volumeMode other than Filesystem in the context of inline volumes"
        errors.forbidden(f"{path}.volumeMode", detail)


def _capacity(errors: Errors, path: str, capacity: Mapping[str, str] | None) -> None:
    errors.non_empty(path, capacity)
    if set(capacity or ()) != {"storage"}:
        errors.unsupported(path, dict(sorted(capacity.items())) if capacity else capacity, ("storage",))
    for name, value in sorted((capacity or {}).items()):
        if (units := parse(str(value)).value) < 0:
            errors.invalid(f"{path}[{name}]", units, "must be a valid resource quantity")
        if amount(value) <= 0:
            errors.invalid(f"{path}[{name}]", value, "must be greater than zero")


def _node_affinity(errors: Errors, path: str, affinity: Struct) -> None:
    if (required := affinity.get("required")) is None:
        errors.required(f"{path}.required", "must specify required node constraints")
    else:
        node_selector(errors, f"{path}.required", required)


def _source(errors: Errors, path: str, spec: Struct, owner: str) -> None:
    count = 0
    for name, check in SOURCES.items():
        if (source := spec.get(name)) is None:
            continue
        if count and name != "flexVolume":
            errors.forbidden(f"{path}.{_MORE_THAN_ONE.get(name, name)}", _ONE_TYPE)
            continue
        count += 1
        check(errors, f"{path}.{name}", source, owner)
        if name == "local" and spec.get("nodeAffinity") is None:
            errors.required(f"{path}.nodeAffinity", "Local volume requires node affinity")
    if not count:
        errors.required(path, "must specify a volume type")
    where, recycled = f"{path}.persistentVolumeReclaimPolicy", spec.get("persistentVolumeReclaimPolicy") == "Recycle"
    host_path = (spec.get("hostPath") or {}).get("path", "")
    if recycled and host_path and posixpath.normpath(host_path) in ("/", "//"):
        errors.forbidden(where, "may not be 'recycle' for a hostPath mount of '/'")


def _attributes_class(errors: Errors, path: str, spec: Struct) -> None:
    if (name := spec.get("volumeAttributesClassName")) is None:
        return
    where = f"{path}.volumeAttributesClassName"
    if errors.non_empty(where, name, "an empty string is disallowed"):
        class_name(errors, where, name)
    if spec.get("csi") is None:
        errors.required(f"{path}.csi", "has to be specified when using volumeAttributesClassName")

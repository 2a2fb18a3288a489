"""VolumeAttachment (API reference, storage.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, Object
from tiphys.api.kinds.common import StatusKind
from tiphys.api.validation.errors import IMMUTABLE, Errors
from tiphys.api.validation.goform import shown
from tiphys.api.validation.names import dns_subdomain
from tiphys.api.validation.persistent_volumes import inline_volume_spec
from tiphys.api.validation.volume_sources import csi_driver_name

Struct = Mapping[str, Any]

_MAX_METADATA, _MAX_MESSAGE = 256 * 1024, 1024
_ONE_SOURCE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"


class VolumeAttachment(StatusKind):
    group, plural, kind = "storage.k8s.io", "volumeattachments", "VolumeAttachment"
    unconditional_update = False
    counts_generation = False
    revalidates_metadata = True
    empty_status: Mapping[str, Any] = {"attached": False}
    columns = (
        printing.NAME,
        Column("Attacher", format="name", description="@VolumeAttachmentSpec.attacher"),
        Column("PV", description="@VolumeAttachmentSource.persistentVolumeName"),
        Column("Node", description="@VolumeAttachmentSpec.nodeName"),
        Column("Attached", "boolean", description="@VolumeAttachmentStatus.attached"),
        printing.AGE,
    )

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec: Struct = obj.get("spec") or {}
        source: Struct = spec.get("source") or {}
        csi_driver_name(errors, "spec.attacher", spec.get("attacher", ""))
        _source(errors, "spec.source", source)
        node = spec.get("nodeName", "")
        errors.each("spec.nodeName", node, dns_subdomain(node))
        _status(errors, "status", obj.get("status") or {})
        if (volume := source.get("persistentVolumeName")) is not None:
            errors.each("spec.source.persistentVolumeName", volume, dns_subdomain(volume))

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self.check(errors, new, context)
        if (spec := new.get("spec") or {}) != (old.get("spec") or {}):
            errors.invalid("spec", shown("VolumeAttachmentSpec", spec), IMMUTABLE)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        _status(errors, "status", new.get("status") or {})
        return errors

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec: Struct = obj.get("spec") or {}
        return [
            printing.name(obj),
            spec.get("attacher", ""),
            (spec.get("source") or {}).get("persistentVolumeName") or "",
            spec.get("nodeName", ""),
            bool((obj.get("status") or {}).get("attached")),
            printing.age(obj, now),
        ]


def _source(errors: Errors, path: str, source: Struct) -> None:
    inline, volume = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    if inline is None and volume is None:
        errors.required(path, _ONE_SOURCE)
    elif inline is not None and volume is not None:
        errors.forbidden(path, _ONE_SOURCE)
    elif inline is not None:
        inline_volume_spec(errors, f"{path}.inlineVolumeSpec", inline)
    elif not volume:
        errors.required(f"{path}.persistentVolumeName", "must specify non empty persistentVolumeName")


def _status(errors: Errors, path: str, status: Struct) -> None:
    values: Mapping[str, str] = status.get("attachmentMetadata") or {}
    if sum(len(key.encode()) + len(value.encode()) for key, value in values.items()) > _MAX_METADATA:
        errors.too_long(f"{path}.attachmentMetadata", _MAX_METADATA)
    for name in ("attachError", "detachError"):
        error: Struct = status.get(name) or {}
        if len(error.get("message", "").encode()) > _MAX_MESSAGE:
            errors.too_long(f"{path}.{name}.message", _MAX_METADATA)
        if (code := error.get("errorCode") or 0) < 0:
            errors.within(f"{path}.{name}.errorCode", code, 0, 2**31 - 1)

"""ResourceClaim, ResourceClaimTemplate and DeviceClass (API reference, resource.k8s.io/v1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import PlainKind, StatusKind, child
from tiphys.api.kinds.resource.requests import (
    MAX_CONFIG,
    MAX_REQUESTS,
    RequestNames,
    binding_conditions,
    configuration,
    default_requests,
    device_claim,
    items,
    itself,
    label,
    pool_name,
    raw_object,
    request_names,
    request_ref,
    selectors,
    unique,
)
from tiphys.api.validation.conditions import conditions
from tiphys.api.validation.errors import IMMUTABLE, Errors
from tiphys.api.validation.goform import shown
from tiphys.api.validation.labels import labels, node_selector
from tiphys.api.validation.metadata import check_annotations, validate_metadata
from tiphys.api.validation.quantities import is_extended
from tiphys.api.validation.volume_sources import csi_driver_name

Struct = Mapping[str, Any]

_MAX_CONSUMERS, _MAX_RESULTS, _MAX_CONDITIONS, _MAX_DATA = 256, 32, 8, 10 * 1024
_is_uid = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


class ResourceClaim(StatusKind):
    group, plural, kind = "resource.k8s.io", "resourceclaims", "ResourceClaim"
    counts_generation = False
    revalidates_metadata = True
    columns = (
        printing.NAME,
        Column("State", description="A summary of the current state (allocated, pending, reserved, etc.)."),
        printing.AGE,
    )

    def default(self, obj: MutableObject, version: str) -> None:
        default_requests(child(child(obj, "spec"), "devices"))

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        device_claim(errors, "spec.devices", (obj.get("spec") or {}).get("devices") or {})

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        if (spec := new.get("spec") or {}) != (old.get("spec") or {}):
            errors.invalid("spec", shown("ResourceClaimSpec", spec), IMMUTABLE)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors, status, was = Errors(), new.get("status") or {}, old.get("status") or {}
        names = request_names((new.get("spec") or {}).get("devices") or {})
        is_deleted = bool((new.get("metadata") or {}).get("deletionTimestamp"))
        reserved, allocation = status.get("reservedFor") or (), status.get("allocation")
        unique(errors, "status.reservedFor", reserved, _MAX_CONSUMERS, _consumer, lambda part: part.get("uid", ""))
        unique(errors, "status.devices", status.get("devices") or (), -1, _device_check(allocation or {}), _device_id)
        if reserved and allocation is None:
            errors.forbidden("status.reservedFor", "may not be specified when `allocated` is not set")
        elif is_deleted and any(part not in (was.get("reservedFor") or ()) for part in reserved):
            detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
            errors.forbidden("status.reservedFor", detail)
        if allocation is not None and was.get("allocation") is not None:
            if allocation != was["allocation"]:
                errors.invalid("status.allocation", allocation, IMMUTABLE)
        elif allocation is not None:
            _allocation(errors, "status.allocation", allocation, names)
        return errors

    def cells(self, obj: Object, now: float) -> list[Any]:
        status = obj.get("status") or {}
        is_deleted = bool((obj.get("metadata") or {}).get("deletionTimestamp"))
        states = ["deleted"] if is_deleted else []
        if status.get("allocation") is None:
            states += [] if is_deleted else ["pending"]
        else:
            states += ["allocated", "reserved"] if status.get("reservedFor") else ["allocated"]
        return [printing.name(obj), ",".join(states), printing.age(obj, now)]


class ResourceClaimTemplate(PlainKind):
    group, plural, kind = "resource.k8s.io", "resourceclaimtemplates", "ResourceClaimTemplate"
    revalidates_metadata = True
    columns = (printing.NAME, printing.AGE)

    def default(self, obj: MutableObject, version: str) -> None:
        default_requests(child(child(child(obj, "spec"), "spec"), "devices"))

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        template: Struct = obj.get("spec") or {}
        meta: Struct = template.get("metadata") or {}
        check_annotations(errors, "spec.metadata.annotations", meta.get("annotations"))
        labels(errors, "spec.metadata.labels", meta.get("labels"))
        for name in sorted(set(meta) - {"annotations", "labels"}):
            if meta[name]:
                errors.forbidden(f"spec.metadata.{name}", "cannot be set")
        device_claim(errors, "spec.spec.devices", (template.get("spec") or {}).get("devices") or {})

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self.check(errors, new, context)
        if (spec := new.get("spec") or {}) != (old.get("spec") or {}):
            errors.invalid("spec", shown("ResourceClaimTemplateSpec", spec), IMMUTABLE)


class DeviceClass(PlainKind):
    group, plural, kind = "resource.k8s.io", "deviceclasses", "DeviceClass"
    name_check = "declared_dns_subdomain"
    counts_generation = True
    columns = (printing.NAME, printing.AGE)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec: Struct = obj.get("spec") or {}
        selectors(errors, "spec.selectors", spec.get("selectors") or ())
        items(errors, "spec.config", spec.get("config") or (), MAX_CONFIG, configuration)
        if (name := spec.get("extendedResourceName")) is not None and not is_extended(name):
            errors.invalid("spec.extendedResourceName", name, "must be a valid extended resource name")

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        errors.extend(validate_metadata(new, self.name_check, namespaced=False))
        self.check(errors, new, context)


def _consumer(errors: Errors, path: str, consumer: Struct) -> None:
    errors.fields(path, consumer, "resource", "name", "uid")


def _device_id(device: Struct) -> str:
    share = device.get("shareID")
    names = "/".join(device.get(key, "") for key in ("driver", "pool", "device"))
    return names if share is None else f"{names}/{share}"


def _share_id(errors: Errors, path: str, share: str | None) -> None:
    if share is not None and not _is_uid(share):
        detail = (
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal"
        )
        errors.invalid(path, share, f"{detail} characters")


def _device_check(allocation: Struct) -> Any:
    allocated = {_device_id(result) for result in (allocation.get("devices") or {}).get("results") or ()}

    def check(errors: Errors, path: str, device: Struct) -> None:
        csi_driver_name(errors, f"{path}.driver", device.get("driver", ""))
        pool_name(errors, f"{path}.pool", device.get("pool", ""))
        label(errors, f"{path}.device", device.get("device", ""))
        _share_id(errors, f"{path}.shareID", device.get("shareID"))
        if _device_id(device) not in allocated:
            errors.invalid(path, _device_id(device), "must be an allocated device in the claim")
        found = device.get("conditions") or ()
        if len(found) > _MAX_CONDITIONS:
            errors.too_many(f"{path}.conditions", len(found), _MAX_CONDITIONS)
        conditions(errors, f"{path}.conditions", found)
        if device.get("data") is not None:
            raw_object(errors, f"{path}.data", device["data"], _MAX_DATA)

    return check


def _allocation(errors: Errors, path: str, allocation: Struct, names: RequestNames) -> None:
    refer = request_ref(names)

    def result(errors: Errors, where: str, value: Struct) -> None:
        refer(errors, f"{where}.request", value.get("request", ""))
        csi_driver_name(errors, f"{where}.driver", value.get("driver", ""))
        pool_name(errors, f"{where}.pool", value.get("pool", ""))
        label(errors, f"{where}.device", value.get("device", ""))
        binding_conditions(errors, where, value)
        _share_id(errors, f"{where}.shareID", value.get("shareID"))

    def config(errors: Errors, where: str, value: Struct) -> None:
        errors.enum(f"{where}.source", value.get("source"), ("FromClaim", "FromClass"))
        unique(errors, f"{where}.requests", value.get("requests") or (), MAX_REQUESTS, refer, itself)
        configuration(errors, where, value)

    devices: Struct = allocation.get("devices") or {}
    items(errors, f"{path}.devices.results", devices.get("results") or (), _MAX_RESULTS, result)
    items(errors, f"{path}.devices.config", devices.get("config") or (), 2 * MAX_CONFIG, config)
    if (selector := allocation.get("nodeSelector")) is not None:
        node_selector(errors, f"{path}.nodeSelector", selector)

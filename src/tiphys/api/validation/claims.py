"""The spec of a PersistentVolumeClaim, which pods and StatefulSets also carry as a template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import label_selector, labels
from tiphys.api.validation.metadata import check_annotations
from tiphys.api.validation.names import dns_label, dns_subdomain
from tiphys.api.validation.quantities import amount

Struct = Mapping[str, Any]

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")


def access_modes(errors: Errors, path: str, modes: list[str]) -> None:
    for mode in modes:
        errors.one_of(path, mode, ACCESS_MODES)
    if "ReadWriteOncePod" in modes and any(mode in ACCESS_MODES[:3] for mode in modes):
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes")


def class_name(errors: Errors, path: str, name: str | None) -> None:
    if name:
        errors.each(path, name, dns_subdomain(name))


def _data_source(errors: Errors, path: str, source: Struct, *, any_group: bool) -> None:
    errors.fields(path, source, "name", "kind")
    group, kind = source.get("apiGroup") or "", source.get("kind", "")
    if not group and kind != "PersistentVolumeClaim":
        detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errors.invalid(path, kind, detail)
    if group and not any_group:
        errors.each(f"{path}.apiGroup", group, dns_subdomain(group))
    if namespace := source.get("namespace"):
        errors.each(f"{path}.namespace", namespace, dns_label(namespace))


def _data_sources(errors: Errors, path: str, spec: Struct, *, any_group: bool) -> None:
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    for name, value in (("dataSource", source), ("dataSourceRef", reference)):
        if value is not None:
            _data_source(errors, f"{path}.{name}", value, any_group=any_group)
    if source is None or reference is None:
        return
    same = all(source.get(key) == reference.get(key) for key in ("apiGroup", "kind", "name"))
    # Upstream hands the path itself as the bad value; its JSON is an empty struct.
    if reference.get("namespace"):
        errors.invalid(path, {}, "may not be specified when dataSourceRef.namespace is specified")
    elif not same:
        errors.invalid(path, {}, "must match dataSourceRef")


def claim_spec(errors: Errors, path: str, spec: Struct, *, any_value: bool = False, any_group: bool = False) -> None:
    """`any_value` and `any_group` forgive what older versions stored."""
    modes = spec.get("accessModes") or []
    errors.non_empty(f"{path}.accessModes", modes, "at least 1 access mode is required")
    label_selector(errors, f"{path}.selector", spec.get("selector"), any_value=any_value)
    access_modes(errors, f"{path}.accessModes", modes)
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        errors.required(f"{path}.resources[storage]")
    elif amount(storage) <= 0:
        errors.invalid(f"{path}.resources[storage]", storage, "must be greater than zero")
    class_name(errors, f"{path}.storageClassName", spec.get("storageClassName"))
    errors.one_of(f"{path}.volumeMode", spec.get("volumeMode"), VOLUME_MODES)
    _data_sources(errors, path, spec, any_group=any_group)
    class_name(errors, f"{path}.volumeAttributesClassName", spec.get("volumeAttributesClassName"))


def claim_template(errors: Errors, path: str, template: Struct) -> None:
    """A template in a pod's ephemeral volume: labels and annotations are all of metadata that it may have."""
    meta: Struct = template.get("metadata") or {}
    check_annotations(errors, f"{path}.metadata.annotations", meta.get("annotations"))
    labels(errors, f"{path}.metadata.labels", meta.get("labels"))
    for name in sorted(set(meta) - {"annotations", "labels"}):
        if meta[name]:
            errors.forbidden(f"{path}.metadata.{name}", "cannot be set")
    claim_spec(errors, f"{path}.spec", template.get("spec") or {})

"""ResourceSlice (API reference, resource.k8s.io/v1): the devices that a driver has, on a node or for all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, MutableObject, Object, quote
from tiphys.api.kinds.common import PlainKind, has_changed, setdefaults
from tiphys.api.kinds.resource.requests import (
    TAINT_EFFECTS,
    attribute_name,
    binding_conditions,
    by_name,
    items,
    label,
    pool_name,
    unique,
)
from tiphys.api.quantity import canonical
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import label_name, node_selector
from tiphys.api.validation.names import dns_label, dns_subdomain, label_value
from tiphys.api.validation.quantities import amount, is_native
from tiphys.api.validation.volume_sources import csi_driver_name
from tiphys.base.clock import rfc3339

Struct = Mapping[str, Any]

_MAX_DEVICES, _MAX_ADVANCED, _MAX_SETS, _MAX_COUNTERS, _MAX_CONSUMPTIONS = 128, 64, 8, 32, 2
_MAX_ENTRIES, _MAX_VALUES, _MAX_TEXT, _MAX_TAINTS, _MAX_OPTIONS = 32, 48, 64, 16, 10
_LISTS = ("bools", "ints", "strings", "versions")
_SINGLES = ("bool", "int", "string", "version")
_CHOICES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_ONE_CHOICE = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
_PER_DEVICE = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true "
    "in the ResourceSlice spec"
)
_NOT_PER_DEVICE = (
    "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the "
    "ResourceSlice spec"
)
_NUMBER = r"(0|[1-9]\d*)"
_PRE = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_is_version = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRE}(\.{_PRE})*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?", re.ASCII
).fullmatch


class ResourceSlice(PlainKind):
    group, plural, kind = "resource.k8s.io", "resourceslices", "ResourceSlice"
    counts_generation = True
    columns = (
        printing.NAME,
        Column("Node", description="@ResourceSliceSpec.nodeName"),
        Column("Driver", description="@ResourceSliceSpec.driver"),
        Column("Pool", description="@ResourcePool.name"),
        printing.AGE,
    )

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        _stamp(obj, context)

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        _stamp(new, context)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        _spec(errors, "spec", obj.get("spec") or {}, None)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        _spec(errors, "spec", new.get("spec") or {}, old.get("spec") or {})

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        driver = (obj.get("spec") or {}).get("driver", "")
        if driver == driver.lower():
            return []
        return [f"spec.driver: driver names should be lowercase; {quote(driver)} contains uppercase characters"]

    def fields(self, obj: Object) -> Mapping[str, str]:
        spec: Struct = obj.get("spec") or {}
        return {"spec.nodeName": spec.get("nodeName") or "", "spec.driver": spec.get("driver", "")}

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec: Struct = obj.get("spec") or {}
        pool = (spec.get("pool") or {}).get("name", "")
        node = spec.get("nodeName") or ""
        return [printing.name(obj), node, spec.get("driver", ""), pool, printing.age(obj, now)]


def _stamp(obj: MutableObject, context: Context) -> None:
    """Taints say when they were added; what a device takes of a node's resources is taken once."""
    for device in (obj.get("spec") or {}).get("devices") or ():
        for taint in device.get("taints") or ():
            setdefaults(taint, timeAdded=rfc3339(context.now))
        for mapping in (device.get("nodeAllocatableResourceMappings") or {}).values():
            setdefaults(mapping, allocationMultiplier="1")


def _spec(errors: Errors, path: str, spec: Struct, was: Struct | None) -> None:
    pool: Struct = spec.get("pool") or {}
    csi_driver_name(errors, f"{path}.driver", spec.get("driver", ""))
    pool_name(errors, f"{path}.pool.name", pool.get("name", ""))
    if (count := pool.get("resourceSliceCount") or 0) <= 0:
        errors.invalid(f"{path}.pool.resourceSliceCount", count, "must be greater than zero")
    if (generation := pool.get("generation") or 0) < 0:
        errors.invalid(f"{path}.pool.generation", generation, "must be greater than or equal to zero")
    if was is not None:
        errors.immutable(f"{path}.pool.name", pool.get("name", ""), (was.get("pool") or {}).get("name"))
        errors.immutable(f"{path}.driver", spec.get("driver", ""), was.get("driver"))
        errors.immutable(f"{path}.nodeName", spec.get("nodeName"), was.get("nodeName"))
    _node_choice(errors, path, spec)
    counters, devices = spec.get("sharedCounters"), spec.get("devices")
    if counters is not None and devices is not None:
        errors.invalid(path, "", "only one of `sharedCounters` or `devices` is allowed")
    most = _MAX_ADVANCED if any(map(_is_advanced, devices or ())) else _MAX_DEVICES
    per_device = bool(spec.get("perDeviceNodeSelection"))
    earlier = {by_name(device): device for device in (was or {}).get("devices") or ()}

    def device(errors: Errors, where: str, value: Struct) -> None:
        _device(errors, where, value, earlier.get(by_name(value)), per_device=per_device)

    unique(errors, f"{path}.devices", devices or (), most, device, by_name)
    unique(errors, f"{path}.sharedCounters", counters or (), _MAX_SETS, _counter_set("name"), by_name)


def _is_advanced(device: Struct) -> bool:
    lists = any(value.get(name) is not None for value in (device.get("attributes") or {}).values() for name in _LISTS)
    return bool(device.get("taints") or device.get("consumesCounters") or lists)


def _node_choice(errors: Errors, path: str, spec: Struct) -> None:
    chosen = []
    if (node := spec.get("nodeName")) is not None:
        if node:
            chosen.append("`nodeName`")
            errors.each(f"{path}.nodeName", node, dns_subdomain(node))
        else:
            errors.invalid(f"{path}.nodeName", node, "must be either unset or set to a non-empty string")
    if (selector := spec.get("nodeSelector")) is not None:
        chosen.append("`nodeSelector`")
        node_selector(errors, f"{path}.nodeSelector", selector)
        if len(terms := selector.get("nodeSelectorTerms") or []) != 1:
            detail = "must have exactly one node selector term"
            errors.invalid(f"{path}.nodeSelector.nodeSelectorTerms", terms or None, detail)
    for name in _CHOICES[2:]:
        if spec.get(name):
            chosen.append(f"`{name}`")
        elif spec.get(name) is not None:
            errors.invalid(f"{path}.{name}", False, "must be either unset or set to true")
    if not chosen:
        errors.required(path, _ONE_CHOICE)
    elif len(chosen) > 1:
        errors.invalid(path, f"{{{', '.join(chosen)}}}", f"{_ONE_CHOICE}, but multiple fields are set")


def _device_nodes(errors: Errors, path: str, device: Struct, *, per_device: bool) -> None:
    given = [name for name in _CHOICES[:3] if device.get(name) is not None]
    if not per_device:
        if given:
            errors.invalid(path, None, _NOT_PER_DEVICE)
        return
    chosen = []
    for name in given:
        value = device[name]
        if not value:
            detail = "must not be empty" if name == "nodeName" else "must be either unset or set to true"
            errors.invalid(f"{path}.{name}", value, detail)
            continue
        chosen.append(f"`{name}`")
        if name == "nodeName":
            errors.each(f"{path}.nodeName", value, dns_subdomain(value))
        elif name == "nodeSelector":
            node_selector(errors, f"{path}.nodeSelector", value)
    if not chosen:
        errors.required(path, _PER_DEVICE)
    elif len(chosen) > 1:
        errors.invalid(path, f"{{{', '.join(chosen)}}}", _PER_DEVICE)


def _device(errors: Errors, path: str, device: Struct, was: Struct | None, *, per_device: bool) -> None:
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    label(errors, f"{path}.name", by_name(device))
    if (count := len(attributes) + len(capacity)) > _MAX_ENTRIES:
        errors.invalid(path, count, f"the total number of attributes and capacities must not exceed {_MAX_ENTRIES}")
    values = sum(sum(len(value.get(name) or ()) for name in _LISTS) or 1 for value in attributes.values())
    if values > _MAX_VALUES:
        errors.invalid(path, values, f"the total number of attribute values must not exceed {_MAX_VALUES}")
    for name in sorted(attributes):
        attribute_name(errors, f"{path}.attributes", name)
        _attribute(errors, f"{path}.attributes[{name}]", attributes[name])
    for name in sorted(capacity):
        attribute_name(errors, f"{path}.capacity", name)
        _capacity(errors, f"{path}.capacity[{name}]", capacity[name], many=bool(device.get("allowMultipleAllocations")))
    if has_changed(device, was, "taints"):
        items(errors, f"{path}.taints", device.get("taints") or (), _MAX_TAINTS, _taint)
    consumed, consumption = device.get("consumesCounters") or (), _counter_set("counterSet")
    unique(
        errors, f"{path}.consumesCounters", consumed, _MAX_CONSUMPTIONS, consumption, lambda c: c.get("counterSet", "")
    )
    _device_nodes(errors, path, device, per_device=per_device)
    binding_conditions(errors, path, device)
    for name, mapping in sorted((device.get("nodeAllocatableResourceMappings") or {}).items()):
        _mapping(errors, f"{path}.nodeAllocatableResourceMappings[{name}]", name, mapping, capacity)


def _mapping(errors: Errors, path: str, name: str, mapping: Struct, capacity: Struct) -> None:
    multiplier, key = mapping.get("allocationMultiplier"), mapping.get("capacityKey")
    if not is_native(name):
        errors.invalid(path, name, "must be a node allocatable resource name")
    if multiplier is not None and amount(multiplier) <= 0:
        errors.invalid(f"{path}.allocationMultiplier", multiplier, "must be positive")
    if key == "":
        errors.invalid(f"{path}.capacityKey", "", "capacityKey must not be an empty string")
    elif key is not None and key not in capacity:
        errors.not_found(f"{path}.capacityKey", key)


def _counter_set(name_field: str) -> Any:
    def check(errors: Errors, path: str, value: Struct) -> None:
        name, counters = value.get(name_field, ""), value.get("counters") or {}
        if errors.non_empty(f"{path}.{name_field}", name):
            label(errors, f"{path}.{name_field}", name)
        where = f"{path}.counters"
        if not errors.non_empty(where, counters):
            return
        if len(counters) > _MAX_COUNTERS:
            errors.too_many(where, len(counters), _MAX_COUNTERS)
            return
        for key in sorted(counters):
            errors.each(where, key, dns_label(key))

    return check


def _taint(errors: Errors, path: str, taint: Struct) -> None:
    label_name(errors, f"{path}.key", taint.get("key", ""))
    if value := taint.get("value"):
        errors.each(f"{path}.value", value, label_value(value))
    errors.enum(f"{path}.effect", taint.get("effect"), TAINT_EFFECTS)


def _attribute(errors: Errors, path: str, attribute: Struct) -> None:
    given = [name for name in (*_SINGLES, *_LISTS) if attribute.get(name) is not None]
    for name in given:
        value = attribute[name]
        if name in _LISTS and not value:
            errors.invalid(f"{path}.{name}", value, "must not be empty if specified")
        if name == "string":
            _text(errors, f"{path}.string", value)
        elif name == "version":
            _version(errors, f"{path}.version", value)
        elif name in ("strings", "versions"):
            check = _text if name == "strings" else _version
            for i, item in enumerate(value):
                check(errors, f"{path}.{name}[{i}]", item)
    if not given:
        errors.invalid(path, "", "exactly one value must be specified")
    elif len(given) > 1:
        fields = ("int", "bool", "string", "version", "ints", "bools", "strings", "versions")
        shown = {f"{f.rstrip('s').capitalize()}Value{'s' if f.endswith('s') else ''}": attribute.get(f) for f in fields}
        errors.invalid(path, shown, "exactly one value must be specified")


def _text(errors: Errors, path: str, value: str) -> None:
    if len(value.encode()) > _MAX_TEXT:
        errors.too_long(path, _MAX_TEXT)


def _version(errors: Errors, path: str, value: str) -> None:
    if not _is_version(value):
        errors.invalid(path, value, "must be a string compatible with semver.org spec 2.0.0")
    _text(errors, path, value)


def _capacity(errors: Errors, path: str, capacity: Struct, *, many: bool) -> None:
    policy, where = capacity.get("requestPolicy"), f"{path}.requestPolicy"
    if policy is None:
        return
    if not many:
        errors.forbidden(where, "allowMultipleAllocations must be true")
        return
    values, bounds, default = policy.get("validValues"), policy.get("validRange"), policy.get("default")
    if values and bounds is not None:
        detail = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        errors.forbidden(where, detail)
    elif values or bounds is not None:
        name = "validValues" if values else "validRange"
        if default is None:
            errors.required(f"{where}.default", f"required when {name} is defined")
        elif values:
            _options(errors, f"{where}.validValues", values, default, str(capacity.get("value", "0")))
        else:
            _range(errors, f"{where}.validRange", bounds or {}, str(default), str(capacity.get("value", "0")))


def _options(errors: Errors, path: str, values: list[str], default: str, most: str) -> None:
    for i, (value, following) in enumerate(pairwise(values)):
        if amount(value) > amount(following):
            errors.invalid(f"{path}[{i + 1}]", canonical(str(following)), "values must be sorted in ascending order")

    def option(errors: Errors, where: str, value: str) -> None:
        if amount(value) > amount(most):
            errors.invalid(where, canonical(str(value)), f"option is larger than capacity value: {canonical(most)}")

    unique(errors, path, values, _MAX_OPTIONS, option, lambda value: str(-(-amount(value) // 10**9)))
    if all(amount(value) != amount(default) for value in values):
        errors.invalid(path, canonical(str(default)), "default value is not valid according to the requestPolicy")


def _range(errors: Errors, path: str, bounds: Struct, default: str, capacity: str) -> None:
    low, high, step = (None if bounds.get(name) is None else str(bounds[name]) for name in ("min", "max", "step"))
    if low is None:
        errors.required(f"{path}.min", "required when validRange is defined")
        return
    _ordered(errors, f"{path}.min", low, low, capacity, "min is larger than capacity value")
    _ordered(errors, f"{path}.min", default, low, default, "default is less than min", shown=low)
    if high is not None:
        _ordered(errors, f"{path}.max", low, low, high, "min is larger than max")
        _ordered(errors, f"{path}.max", high, high, capacity, "max is larger than capacity value")
        _ordered(errors, f"{path}.max", default, default, high, "default is more than max")
    if step is None:
        return
    if amount(low) + amount(step) > amount(capacity):
        total = (amount(low) + amount(step)) // 10**9
        detail = f"one step {canonical(str(total))} is larger than capacity value: {canonical(capacity)}"
        errors.invalid(f"{path}.step", canonical(step), detail)
    for value in (default, high):
        if value is not None and (size := amount(step) // 10**9) and (amount(value) - amount(low)) // 10**9 % size:
            detail = f"value is not a multiple of a given step ({canonical(step)}) from ({canonical(low)})"
            errors.invalid(f"{path}.step", canonical(value), detail)


def _ordered(
    errors: Errors, path: str, value: str, less: str, more: str, detail: str, *, shown: str | None = None
) -> None:
    if amount(less) > amount(more):
        errors.invalid(path, canonical(value), f"{detail}: {canonical(shown or more)}")

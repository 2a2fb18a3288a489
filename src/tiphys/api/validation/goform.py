"""Structs as answers show them when a whole struct is the bad value: by the names and in the order of Go's fields.

A form lists the fields of a struct. Each is a name and a sort: `s` text, `b` truth and `i` number, which have a
zero; `p` anything that may be absent; `Form`, `*Form`, `[Form]` and `{Form}` a struct, one that may be absent, a
list and a map of them. `name=json` is for fields whose JSON name is not the Go one with a small first letter;
`name=` for fields that JSON has inlined.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

Struct = Mapping[str, Any]

_ZEROS: Mapping[str, Any] = {"s": "", "b": False, "i": 0, "p": None}
FORMS: Mapping[str, str] = {
    # core
    "VolumeNodeAffinity": "Required:*NodeSelector",
    "NodeSelector": "NodeSelectorTerms:[NodeSelectorTerm]",
    "NodeSelectorTerm": "MatchExpressions:[NodeSelectorRequirement] MatchFields:[NodeSelectorRequirement]",
    "NodeSelectorRequirement": "Key:s Operator:s Values:p",
    # resource.k8s.io
    "ResourceClaimTemplateSpec": "ObjectMeta=metadata:p Spec:ResourceClaimSpec",
    "ResourceClaimSpec": "Devices:DeviceClaim",
    "DeviceClaim": "Requests:[DeviceRequest] Constraints:[DeviceConstraint] Config:[DeviceClaimConfiguration]",
    "DeviceRequest": "Name:s Exactly:*ExactDeviceRequest FirstAvailable:[DeviceSubRequest]",
    "ExactDeviceRequest": (
        "DeviceClassName:s Selectors:[DeviceSelector] AllocationMode:s Count:i AdminAccess:p "
        "Tolerations:[DeviceToleration] Capacity:*CapacityRequirements"
    ),
    "DeviceSubRequest": (
        "Name:s DeviceClassName:s Selectors:[DeviceSelector] AllocationMode:s Count:i "
        "Tolerations:[DeviceToleration] Capacity:*CapacityRequirements"
    ),
    "DeviceSelector": "CEL=cel:*CELDeviceSelector",
    "CELDeviceSelector": "Expression:s",
    "DeviceToleration": "Key:s Operator:s Value:s Effect:s TolerationSeconds:p",
    "CapacityRequirements": "Requests:p",
    "DeviceConstraint": "Requests:p MatchAttribute:p DistinctAttribute:p",
    "DeviceClaimConfiguration": "Requests:p Opaque:*OpaqueDeviceConfiguration",
    "OpaqueDeviceConfiguration": "Driver:s Parameters:p",
}


@lru_cache(256)
def _fields(form: str) -> tuple[tuple[str, str, str], ...]:
    fields = []
    for field in FORMS[form].split():
        name, _, sort = field.partition(":")
        name, given, json_name = name.partition("=")
        fields.append((name, json_name if given else name[0].lower() + name[1:], sort))
    return tuple(fields)


def shown(form: str, value: Struct | None) -> dict[str, Any]:
    """`value`, a JSON object, as Go shows a struct of that form."""
    struct = value or {}
    return {name: _value(sort, struct.get(key) if key else struct) for name, key, sort in _fields(form)}


def _value(sort: str, value: Any) -> Any:
    if sort in _ZEROS:
        return _ZEROS[sort] if value is None else value
    if sort[0] == "[":
        return None if value is None else [shown(sort[1:-1], item) for item in value]
    if sort[0] == "{":
        return None if value is None else {key: shown(sort[1:-1], value[key]) for key in sorted(value)}
    if sort[0] == "*":
        return None if value is None else shown(sort[1:], value)
    return shown(sort, value)

"""Node (API reference, core/v1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.amounts import round_up
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import StatusKind, child, first_of, keep
from tiphys.api.validation.addresses import legacy_cidr, parse_cidr
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import config_key, dns_label, dns_subdomain
from tiphys.api.validation.quantities import quantity_value
from tiphys.api.validation.scheduling import taints

Struct = Mapping[str, Any]

_ROLE = "node-role.kubernetes.io/"
_is_feature = re.compile(r"[A-Z][a-zA-Z0-9]*(/[a-zA-Z][a-zA-Z0-9]*)*").fullmatch
_ONE_WAY = 'node updates may not change {} except from "" to valid'


class Node(StatusKind):
    plural, kind = "nodes", "Node"
    revalidates_metadata = True
    counts_generation = False
    columns = (
        printing.NAME,
        Column("Status", description="The status of the node"),
        Column("Roles", description="The roles of the node"),
        printing.AGE,
        Column("Version", description="@NodeSystemInfo.kubeletVersion"),
        Column("Internal-IP", description="@NodeStatus.addresses", priority=1),
        Column("External-IP", description="@NodeStatus.addresses", priority=1),
        Column("OS-Image", description="@NodeSystemInfo.osImage", priority=1),
        Column("Kernel-Version", description="@NodeSystemInfo.kernelVersion", priority=1),
        Column("Container-Runtime", description="@NodeSystemInfo.containerRuntimeVersion", priority=1),
    )

    def default(self, obj: MutableObject, version: str) -> None:
        status = child(obj, "status")
        round_up(status, "capacity", "allocatable")
        if status.get("allocatable") is None and status.get("capacity") is not None:
            status["allocatable"] = dict(status["capacity"])
        first_of(child(obj, "spec"), "podCIDR", "podCIDRs")

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        """A kubelet registers its node with its status."""
        child(obj, "spec").pop("configSource", None)
        child(obj, "status").pop("config", None)

    def prepare_status_update(self, new: MutableObject, old: Object, context: Context) -> None:
        super().prepare_status_update(new, old, context)
        if (old.get("status") or {}).get("config") is None:
            child(new, "status").pop("config", None)

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        keep(new, old, "status")
        if (old.get("spec") or {}).get("configSource") is None:
            child(new, "spec").pop("configSource", None)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec = obj.get("spec") or {}
        taints(errors, "metadata.taints", spec.get("taints") or ())
        self._status(errors, obj.get("status") or {})
        cidrs = spec.get("podCIDRs") or []
        for i, cidr in enumerate(cidrs):
            legacy_cidr(errors, f"spec.podCIDRs[{i}]", cidr)
        unread = next((i for i, cidr in enumerate(cidrs) if parse_cidr(cidr) is None), None)
        if len(cidrs) > 1 and unread is not None:
            problem = f"invalid CIDR[{unread}]: <nil> (invalid CIDR address: {cidrs[unread]})"
            detail = f"invalid PodCIDRs. failed to check with dual stack with error:{problem}"
            errors.internal("spec.podCIDRs", detail)
        families = [parsed[0].version for cidr in cidrs if (parsed := parse_cidr(cidr))]
        if len(cidrs) > 2 or (len(cidrs) == 2 and len(set(families)) < 2):
            errors.invalid("spec.podCIDRs", cidrs, "may specify no more than one CIDR for each IP family")

    def _status(self, errors: Errors, status: Struct) -> None:
        for field in ("capacity", "allocatable"):
            for name, value in sorted((status.get(field) or {}).items()):
                quantity_value(errors, f"status.{field}.{name}", name, value)
        _features(errors, status.get("declaredFeatures") or ())

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        spec, was = new.get("spec") or {}, old.get("spec") or {}
        self.check(errors, new, context)
        if was.get("podCIDRs") and was["podCIDRs"] != spec.get("podCIDRs"):
            errors.forbidden("spec.podCIDRs", _ONE_WAY.format("podCIDR"))
        if was.get("providerID") and was["providerID"] != spec.get("providerID"):
            errors.forbidden("spec.providerID", _ONE_WAY.format("providerID"))
        if source := spec.get("configSource"):
            _config_source(errors, "spec.configSource", source)
        if (spec.get("externalID") or "") != (was.get("externalID") or ""):
            errors.forbidden("spec.externalID", "may not be updated")

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        status = new.get("status") or {}
        self._status(errors, status)
        seen = []
        for i, address in enumerate(status.get("addresses") or ()):
            shown = {"Type": address.get("type", ""), "Address": address.get("address", "")}
            if shown in seen:
                errors.duplicate(f"status.addresses[{i}]", shown)
            seen.append(shown)
        return errors

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        spec, found = obj.get("spec") or {}, []
        if spec.get("configSource") is not None:
            found.append("spec.configSource: the feature is no longer available")
        if spec.get("externalID"):
            found.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
        return found

    def fields(self, obj: Object) -> Mapping[str, str]:
        return {"spec.unschedulable": "true" if (obj.get("spec") or {}).get("unschedulable") else "false"}

    def cells(self, obj: Object, now: float) -> list[Any]:
        status = obj.get("status") or {}
        info = status.get("nodeInfo") or {}
        kernel = info.get("kernelVersion") or printing.UNKNOWN
        if architecture := info.get("architecture"):
            kernel += f" ({architecture})"
        return [
            printing.name(obj),
            _ready(obj),
            _roles(obj) or printing.NONE,
            printing.age(obj, now),
            info.get("kubeletVersion", ""),
            _address(status, "InternalIP"),
            _address(status, "ExternalIP"),
            info.get("osImage") or printing.UNKNOWN,
            kernel,
            info.get("containerRuntimeVersion") or printing.UNKNOWN,
        ]


def _ready(obj: Object) -> str:
    text = "Unknown"
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready":
            text = "Ready" if condition.get("status") == "True" else "NotReady"
    return text + (",SchedulingDisabled" if (obj.get("spec") or {}).get("unschedulable") else "")


def _roles(obj: Object) -> str:
    labels = (obj.get("metadata") or {}).get("labels") or {}
    roles = {key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE)}
    return ",".join(sorted((roles | {labels.get("kubernetes.io/role", "")}) - {""}))


def _address(status: Struct, kind: str) -> str:
    for address in status.get("addresses") or ():
        if address.get("type") == kind:
            return str(address.get("address", ""))
    return printing.NONE


def _features(errors: Errors, names: Any) -> None:
    for i, name in enumerate(names):
        path = f"status.declaredFeatures[{i}]"
        if len(name) > 253:
            errors.invalid(path, name, f'invalid feature name "{name}": must be no more than 253 characters')
        elif not _is_feature(name):
            detail = (
                f'invalid feature name "{name}": must start with an UpperCamelCase segment, with subsequent segments'
                " separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric"
                " characters and slashes"
            )
            errors.invalid(path, name, detail)
        if i and names[i - 1] == name:
            errors.duplicate(path, name)
        elif i and names[i - 1] > name:
            errors.invalid(path, name, "list must be sorted alphabetically")


def _config_source(errors: Errors, path: str, source: Struct) -> None:
    reference = source.get("configMap")
    if reference is None:
        errors.invalid(path, {"ConfigMap": None}, "exactly one reference subfield must be non-nil")
        return
    where = f"{path}.configMap"
    for name in ("uid", "resourceVersion"):
        if reference.get(name):
            errors.forbidden(f"{where}.{name}", f"{name} must not be set in spec")
    for name, check in (("namespace", dns_label), ("name", dns_subdomain), ("kubeletConfigKey", config_key)):
        if errors.non_empty(f"{where}.{name}", value := reference.get(name, "")):
            errors.each(f"{where}.{name}", value, check(value))

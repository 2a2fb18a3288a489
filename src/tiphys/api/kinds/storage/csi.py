"""CSIDriver, CSINode and CSIStorageCapacity (API reference, storage.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import CreatedAtKind, PlainKind, child, has_changed, setdefaults
from tiphys.api.kinds.deprecations import selector_warnings
from tiphys.api.validation.errors import IMMUTABLE, Errors
from tiphys.api.validation.labels import label_name, label_selector
from tiphys.api.validation.names import dns_subdomain
from tiphys.api.validation.quantities import non_negative_quantity
from tiphys.api.validation.volume_sources import csi_driver_name

Struct = Mapping[str, Any]

_FLAGS = {
    "attachRequired": True,
    "podInfoOnMount": False,
    "storageCapacity": False,
    "requiresRepublish": False,
    "seLinuxMount": False,
}
_PATHS = {"attachRequired": "spec.attachedRequired"}
_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_TOKENS = (
    "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible "
    "logging of tokens in volume attributes"
)
_MAX_NODE_ID, _MIN_TOKEN, _MAX_TOKEN, _MIN_PERIOD = 256, 600, 1 << 32, 10


class CSIDriver(PlainKind):
    group, plural, kind = "storage.k8s.io", "csidrivers", "CSIDriver"
    unconditional_update = False
    columns = (
        printing.NAME,
        Column("AttachRequired", "boolean", description="@CSIDriverSpec.attachRequired"),
        Column("PodInfoOnMount", "boolean", description="@CSIDriverSpec.podInfoOnMount"),
        Column("StorageCapacity", "boolean", description="@CSIDriverSpec.storageCapacity"),
        Column("TokenRequests", description="@CSIDriverSpec.tokenRequests"),
        Column("RequiresRepublish", "boolean", description="@CSIDriverSpec.requiresRepublish"),
        Column("Modes", description="@CSIDriverSpec.volumeLifecycleModes"),
        printing.AGE,
    )

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        setdefaults(spec, **_FLAGS, fsGroupPolicy="ReadWriteOnceWithFSType")
        if not spec.get("volumeLifecycleModes"):
            spec["volumeLifecycleModes"] = ["Persistent"]

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        child(obj, "spec").pop("preventPodSchedulingIfMissing", None)

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        spec, was = child(new, "spec"), old.get("spec") or {}
        if was.get("preventPodSchedulingIfMissing") is None:
            spec.pop("preventPodSchedulingIfMissing", None)
        if spec != was:
            new["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec: Struct = obj.get("spec") or {}
        for name in ("attachRequired", "podInfoOnMount", "storageCapacity"):
            if spec.get(name) is None:
                errors.required(_PATHS.get(name, f"spec.{name}"))
        errors.one_of("spec.fsGroupPolicy", spec.get("fsGroupPolicy"), _GROUP_POLICIES)
        _token_requests(errors, "spec.tokenRequests", spec.get("tokenRequests") or ())
        for mode in spec.get("volumeLifecycleModes") or ():
            errors.one_of("spec.volumeLifecycleModes", mode, ("Persistent", "Ephemeral"))
        if spec.get("seLinuxMount") is None:
            errors.required("spec.seLinuxMount")
        path, period = "spec.nodeAllocatableUpdatePeriodSeconds", spec.get("nodeAllocatableUpdatePeriodSeconds")
        if period is not None and period < _MIN_PERIOD:
            errors.invalid(path, period, "must be greater than or equal to 10 seconds")
        in_secrets = spec.get("serviceAccountTokenInSecrets")
        if in_secrets is not None and not spec.get("tokenRequests"):
            detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified"
            errors.invalid("spec.serviceAccountTokenInSecrets", in_secrets, detail)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        spec, was = new.get("spec") or {}, old.get("spec") or {}
        self.check(errors, new, context)
        if spec.get("attachRequired") != was.get("attachRequired"):
            errors.invalid("spec.attachedRequired", spec.get("attachRequired"), IMMUTABLE)
        errors.immutable("spec.volumeLifecycleModes", spec.get("volumeLifecycleModes"), was.get("volumeLifecycleModes"))

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        spec: Struct = obj.get("spec") or {}
        changed = has_changed(spec, None if old is None else old.get("spec") or {}, "tokenRequests")
        quiet = not spec.get("tokenRequests") or spec.get("serviceAccountTokenInSecrets") is not None
        return [_TOKENS] if changed and not quiet else []

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec: Struct = obj.get("spec") or {}
        requests, modes = spec.get("tokenRequests"), spec.get("volumeLifecycleModes") or ()
        return [
            printing.name(obj),
            spec.get("attachRequired") is not False,
            bool(spec.get("podInfoOnMount")),
            bool(spec.get("storageCapacity")),
            ",".join(request.get("audience", "") for request in requests) if requests else printing.UNSET,
            bool(spec.get("requiresRepublish")),
            ",".join(modes) or printing.NONE,
            printing.age(obj, now),
        ]


class CSINode(PlainKind):
    group, plural, kind = "storage.k8s.io", "csinodes", "CSINode"
    unconditional_update = False
    revalidates_metadata = True
    columns = (
        printing.NAME,
        Column("Drivers", "integer", description="Drivers indicates the number of CSI drivers registered on the node"),
        printing.AGE,
    )

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        names: set[str] = set()
        for i, driver in enumerate((obj.get("spec") or {}).get("drivers") or ()):
            _node_driver(errors, f"spec.drivers[{i}]", driver, names)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self.check(errors, new, context)
        drivers, earlier = ((obj.get("spec") or {}).get("drivers") or () for obj in (new, old))
        for was in earlier:
            for driver in drivers:
                if driver.get("name") == was.get("name") and has_changed(driver, was, "nodeID", "topologyKeys"):
                    shown = {
                        "Name": driver.get("name", ""),
                        "NodeID": driver.get("nodeID", ""),
                        "TopologyKeys": driver.get("topologyKeys"),
                        "Allocatable": None,
                    }
                    errors.invalid("spec.drivers", shown, IMMUTABLE)

    def cells(self, obj: Object, now: float) -> list[Any]:
        return [printing.name(obj), len((obj.get("spec") or {}).get("drivers") or ()), printing.age(obj, now)]


class CSIStorageCapacity(CreatedAtKind):
    group, plural, kind = "storage.k8s.io", "csistoragecapacities", "CSIStorageCapacity"
    unconditional_update = False

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        label_selector(errors, "nodeTopology", obj.get("nodeTopology"))
        name = obj.get("storageClassName", "")
        errors.each("storageClassName", name, dns_subdomain(name))
        if (capacity := obj.get("capacity")) is not None:
            non_negative_quantity(errors, "capacity", capacity)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        for name in ("nodeTopology", "storageClassName"):
            errors.immutable(name, new.get(name), old.get(name))

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        return list(selector_warnings(obj.get("nodeTopology"), "nodeTopology"))


def _token_requests(errors: Errors, path: str, requests: Sequence[Struct]) -> None:
    audiences: set[str] = set()
    for i, request in enumerate(requests):
        audience, seconds = request.get("audience", ""), request.get("expirationSeconds")
        if audience in audiences:
            errors.duplicate(f"{path}[{i}].audience", audience)
            continue
        audiences.add(audience)
        if seconds is None:
            continue
        where = f"{path}[{i}].expirationSeconds"
        if seconds < _MIN_TOKEN:
            errors.invalid(where, seconds, "may not specify a duration less than 10 minutes")
        if seconds > _MAX_TOKEN:
            errors.invalid(where, seconds, "may not specify a duration larger than 2^32 seconds")


def _node_driver(errors: Errors, path: str, driver: Struct, names: set[str]) -> None:
    name, node_id = driver.get("name", ""), driver.get("nodeID", "")
    csi_driver_name(errors, f"{path}.name", name)
    errors.non_empty(f"{path}.nodeID", node_id)
    if len(node_id.encode()) > _MAX_NODE_ID:
        errors.invalid(f"{path}.nodeID", node_id, f"must be {_MAX_NODE_ID} characters or less")
    errors.non_negative(f"{path}.allocatable.count", (driver.get("allocatable") or {}).get("count"))
    if name in names:
        errors.duplicate(f"{path}.name", name)
    names.add(name)
    keys: set[str] = set()
    for key in driver.get("topologyKeys") or ():
        errors.non_empty(path, key)
        if key in keys:
            errors.duplicate(path, key)
        keys.add(key)
        label_name(errors, path, key)

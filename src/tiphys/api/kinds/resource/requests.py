"""Rules of requests for devices: what ResourceClaims, their templates and DeviceClasses have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import MutableObject, quote
from tiphys.api.kinds.common import fill_empty
from tiphys.api.kinds.resource import expressions
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import label_name
from tiphys.api.validation.names import c_identifier, dns_label, dns_subdomain, label_value
from tiphys.api.validation.volume_sources import csi_driver_name

Struct = Mapping[str, Any]
ItemCheck = Callable[[Errors, str, Any], None]
RequestNames = Mapping[str, frozenset[str]]

MAX_REQUESTS, MAX_CONSTRAINTS, MAX_CONFIG, MAX_SELECTORS = 32, 32, 32, 32
_MAX_ALTERNATIVES, _MAX_PARAMETERS, _MAX_ID = 8, 10 * 1024, 32
TAINT_EFFECTS = ("NoExecute", "NoSchedule", "None")
_NO_REQUEST = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
_ONE_OF = "exactly one of `exactly` or `firstAvailable` is required"


def default_requests(claim: MutableObject) -> None:
    """`claim` is the `devices` of a claim."""
    for request in claim.get("requests") or ():
        exactly = request.get("exactly")
        for part in (*([] if exactly is None else [exactly]), *(request.get("firstAvailable") or ())):
            fill_empty(part, allocationMode="ExactCount")
            if part["allocationMode"] == "ExactCount":
                fill_empty(part, count=1)
            for toleration in part.get("tolerations") or ():
                fill_empty(toleration, operator="Equal")


def items(errors: Errors, path: str, listed: Sequence[Any], most: int, check: ItemCheck) -> bool:
    """Check each; False when there are too many to."""
    if 0 <= most < len(listed):
        errors.too_many(path, len(listed), most)
        return False
    for i, item in enumerate(listed):
        check(errors, f"{path}[{i}]", item)
    return True


def unique(
    errors: Errors, path: str, listed: Sequence[Any], most: int, check: ItemCheck, key: Callable[[Any], Any]
) -> None:
    """The same, and no two may have the same key."""
    if not items(errors, path, listed, most, check):
        return
    seen: set[Any] = set()
    for i, item in enumerate(listed):
        if key(item) in seen:
            errors.duplicate(f"{path}[{i}]", key(item))
        seen.add(key(item))


def by_name(item: Struct) -> str:
    return str(item.get("name", ""))


def itself(item: str) -> str:
    return item


def label(errors: Errors, path: str, value: str) -> None:
    errors.each(path, value, dns_label(value))


def request_names(claim: Struct) -> RequestNames:
    return {
        by_name(request): frozenset(map(by_name, request.get("firstAvailable") or ()))
        for request in claim.get("requests") or ()
    }


def request_ref(names: RequestNames) -> ItemCheck:
    """A check of references to requests of a claim: 'request' or 'request/subrequest'."""

    def check(errors: Errors, path: str, name: str) -> None:
        parts = name.split("/")
        if len(parts) > 2:
            errors.invalid(path, name, _NO_REQUEST)
            return
        for part in parts:
            label(errors, path, part)
        if parts[0] not in names or (len(parts) > 1 and parts[1] not in names[parts[0]]):
            errors.invalid(path, name, _NO_REQUEST)

    return check


def device_claim(errors: Errors, path: str, claim: Struct) -> None:
    refer = request_ref(request_names(claim))

    def constraint(errors: Errors, where: str, value: Struct) -> None:
        unique(errors, f"{where}.requests", value.get("requests") or (), MAX_REQUESTS, refer, itself)
        given = [name for name in ("matchAttribute", "distinctAttribute") if value.get(name) is not None]
        if given:
            attribute_name(errors, f"{where}.{given[0]}", value[given[0]], full=True)
        else:
            detail = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
            errors.required(where, detail)

    def config(errors: Errors, where: str, value: Struct) -> None:
        unique(errors, f"{where}.requests", value.get("requests") or (), MAX_REQUESTS, refer, itself)
        configuration(errors, where, value)

    unique(errors, f"{path}.requests", claim.get("requests") or (), MAX_REQUESTS, _request, by_name)
    items(errors, f"{path}.constraints", claim.get("constraints") or (), MAX_CONSTRAINTS, constraint)
    items(errors, f"{path}.config", claim.get("config") or (), MAX_CONFIG, config)


def _request(errors: Errors, path: str, request: Struct) -> None:
    exactly, first = request.get("exactly"), request.get("firstAvailable")
    label(errors, f"{path}.name", by_name(request))
    if exactly is None and not first:
        errors.required(path, _ONE_OF)
    elif exactly is not None and first:
        errors.invalid(path, None, f"{_ONE_OF}, but multiple fields are set")
    elif first:
        unique(errors, f"{path}.firstAvailable", first, _MAX_ALTERNATIVES, _sub_request, by_name)
    elif exactly is not None:
        _exact(errors, f"{path}.exactly", exactly)


def _sub_request(errors: Errors, path: str, request: Struct) -> None:
    label(errors, f"{path}.name", by_name(request))
    _exact(errors, path, request)


def _exact(errors: Errors, path: str, request: Struct) -> None:
    name, mode, count = request.get("deviceClassName", ""), request.get("allocationMode", ""), request.get("count") or 0
    if errors.non_empty(f"{path}.deviceClassName", name):
        errors.each(f"{path}.deviceClassName", name, dns_subdomain(name))
    selectors(errors, f"{path}.selectors", request.get("selectors") or ())
    if mode == "All" and count:
        errors.invalid(f"{path}.count", count, "must not be specified when allocationMode is 'All'")
    elif mode == "ExactCount" and count <= 0:
        errors.invalid(f"{path}.count", count, "must be greater than zero")
    elif mode not in ("All", "ExactCount"):
        errors.unsupported(f"{path}.allocationMode", mode, ("All", "ExactCount"))
    items(errors, f"{path}.tolerations", request.get("tolerations") or (), -1, _toleration)


def selectors(errors: Errors, path: str, listed: Sequence[Struct]) -> None:
    items(errors, path, listed, MAX_SELECTORS, _selector)


def _selector(errors: Errors, path: str, selector: Struct) -> None:
    if (cel := selector.get("cel")) is None:
        errors.required(f"{path}.cel")
    else:
        expressions.check(errors, f"{path}.cel.expression", cel.get("expression", ""))


def _toleration(errors: Errors, path: str, toleration: Struct) -> None:
    operator, value = toleration.get("operator", ""), toleration.get("value", "")
    if key := toleration.get("key"):
        label_name(errors, f"{path}.key", key)
    errors.enum(f"{path}.operator", operator, ("Equal", "Exists"))
    if operator == "Exists" and value:
        errors.invalid(f"{path}.value", value, "must be empty for operator `Exists`")
    elif operator == "Equal":
        errors.each(f"{path}.value", value, label_value(value))
    errors.one_of(f"{path}.effect", toleration.get("effect") or None, TAINT_EFFECTS)


def configuration(errors: Errors, path: str, config: Struct) -> None:
    if (opaque := config.get("opaque")) is None:
        errors.required(f"{path}.opaque")
        return
    csi_driver_name(errors, f"{path}.opaque.driver", opaque.get("driver", ""))
    raw_object(errors, f"{path}.opaque.parameters", opaque.get("parameters"), _MAX_PARAMETERS)


def raw_object(errors: Errors, path: str, value: Any, most: int) -> None:
    """Any JSON object, not too long."""
    if value is None:
        errors.required(path)
    elif len(quote(value)) > most:
        errors.too_long(path, most)
    elif not isinstance(value, Mapping):
        errors.invalid(path, "<value omitted>", "must be a valid JSON object")


def attribute_name(errors: Errors, path: str, name: str, *, full: bool = False) -> None:
    """A C identifier, with a driver's domain in front of it when `full`."""
    domain, slash, identifier = name.rpartition("/")
    if "/" not in domain:
        if slash and not domain:
            errors.invalid(path, "", "the domain must not be empty")
        elif slash:
            csi_driver_name(errors, path, domain)
        if slash and not identifier:
            errors.invalid(path, "", "the name must not be empty")
        else:
            _identifier(errors, path, identifier)
    if full and not slash:
        errors.invalid(path, name, "a fully qualified name must be a domain and a name separated by a slash")


def _identifier(errors: Errors, path: str, value: str) -> None:
    if len(value.encode()) > _MAX_ID:
        errors.too_long(path, _MAX_ID)
    errors.each(path, value, c_identifier(value))


def pool_name(errors: Errors, path: str, name: str) -> None:
    if not errors.non_empty(path, name):
        return
    if len(name.encode()) > 253:
        errors.too_long(path, 253)
    for part in name.split("/"):
        errors.each(path, part, dns_subdomain(part))


def binding_conditions(errors: Errors, path: str, holder: Struct) -> None:
    """Conditions that a device has to meet, and those that say that it never will."""
    good, bad = (list(holder.get(name) or ()) for name in ("bindingConditions", "bindingFailureConditions"))
    for name, listed in (("bindingConditions", good), ("bindingFailureConditions", bad)):
        items(errors, f"{path}.{name}", listed, 4, label_name)
    for name, listed in (("bindingConditions", good), ("bindingFailureConditions", bad)):
        for i, condition in enumerate(listed):
            where = f"{path}.{name}[{i}]"
            if condition in listed[:i]:
                errors.duplicate(where, condition)
            if listed is bad and condition in good:
                errors.invalid(where, condition, "bindingFailureConditions must not overlap with bindingConditions")
    for name, listed, other in (("bindingConditions", good, bad), ("bindingFailureConditions", bad, good)):
        if other and not listed:
            needed = "bindingFailureConditions" if listed is good else "bindingConditions"
            errors.invalid(f"{path}.{name}", listed or None, f"{name} are required to use {needed}")

"""Resource quantities as numbers, and the rules for lists of resources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from tiphys.api.quantity import parse
from tiphys.api.validation.errors import NEGATIVE, Errors
from tiphys.api.validation.names import dns_label, qualified_name

Struct = Mapping[str, Any]
ResourceNameCheck = Callable[[Errors, str, str], None]

_UNIT = 10**9
_MILLI = 10**6

HUGE_PAGES = "hugepages-"
_QUOTA_ONLY = [
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
]
_CONTAINER = ("cpu", "memory", "ephemeral-storage")
QUOTA_RESOURCES = frozenset((*_CONTAINER, *_QUOTA_ONLY))
_STANDARD = frozenset((*QUOTA_RESOURCES, "storage"))
_INTEGER = frozenset(_QUOTA_ONLY[7:])


@lru_cache(4096)
def amount(text: str | int | float | None) -> int:
    """The number that a quantity stands for (cores, bytes, pieces), times 10**9; 0 for nothing.

    Raises ValueError for what is no quantity; decoding refuses those before.
    """
    return 0 if text is None or text == "" else parse(str(text)).nanos


def is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """A device plugin's resource, by its name."""
    if is_native(name) or name.startswith("requests."):
        return False
    return not qualified_name(f"requests.{name}")


def overcommit_allowed(name: str) -> bool:
    return is_native(name) and not name.startswith(HUGE_PAGES)


def is_quota_resource(name: str) -> bool:
    return name in QUOTA_RESOURCES or name.startswith((HUGE_PAGES, "requests.hugepages-"))


def resource_name(errors: Errors, path: str, name: str) -> bool:
    """Any resource; False when it was refused."""
    if found := qualified_name(name):
        errors.each(path, name, found)
        return False
    if "/" not in name and name not in _STANDARD and not name.startswith((HUGE_PAGES, "requests.hugepages-")):
        errors.invalid(path, name, "must be a standard resource type or fully qualified")
        return False
    return True


def container_resource_name(errors: Errors, path: str, name: str) -> None:
    if name in _CONTAINER:
        return
    resource_name(errors, path, name)
    if "/" not in name:
        if not name.startswith(HUGE_PAGES):
            errors.invalid(path, name, "must be a standard resource for containers")
    elif not is_native(name) and not is_extended(name):
        errors.invalid(path, name, "doesn't follow extended resource name standard")


def pod_resource_name(errors: Errors, path: str, name: str) -> None:
    """Resources that a whole pod may ask for."""
    if resource_name(errors, path, name) and name not in ("cpu", "memory") and not name.startswith(HUGE_PAGES):
        errors.unsupported(path, name, ("cpu", "hugepages-", "memory"))


def quota_resource_name(errors: Errors, path: str, name: str) -> None:
    resource_name(errors, path, name)
    if "/" not in name and not is_quota_resource(name):
        errors.invalid(path, name, "must be a standard resource for quota")


def non_negative_quantity(errors: Errors, path: str, value: str) -> None:
    if amount(value) < 0:
        errors.invalid(path, value, NEGATIVE)


def quantity_value(errors: Errors, path: str, name: str, value: str) -> None:
    """An amount of the resource `name`: not negative, and whole when the resource comes in pieces."""
    number = amount(value)
    if number < 0:
        errors.invalid(path, value, NEGATIVE)
    if (name in _INTEGER or is_extended(name)) and parse(str(value)).milli % 1000:
        errors.invalid(path, value, "must be an integer")


def _huge_page_value(errors: Errors, path: str, name: str, value: str) -> None:
    try:
        size = parse(name.removeprefix(HUGE_PAGES)).nanos
    except ValueError:
        size = 0
    if size <= 0 or size % _UNIT or -(-amount(value) // _UNIT) % (size // _UNIT):
        errors.invalid(path, value, f"{value} is not positive integer multiple of {name}")


def _limit(errors: Errors, path: str, name: str, value: str, check: ResourceNameCheck) -> None:
    check(errors, path, name)
    quantity_value(errors, path, name, value)
    if name.startswith(HUGE_PAGES):
        _huge_page_value(errors, path, name, value)


def _request(errors: Errors, path: str, name: str, value: str, limits: Struct) -> None:
    if (limit := limits.get(name)) is None:
        if not overcommit_allowed(name):
            errors.required(f"{path}.limits", "Limit must be set for non overcommitable resources")
    elif value != limit:
        wanted, most = amount(value), amount(limit)
        if wanted != most and not overcommit_allowed(name):
            errors.invalid(f"{path}.requests", value, f"must be equal to {name} limit of {limit}")
        elif wanted > most:
            errors.invalid(f"{path}.requests", value, f"must be less than or equal to {name} limit of {limit}")


def resource_requirements(
    errors: Errors,
    path: str,
    requirements: Struct | None,
    claims: frozenset[str] = frozenset(),
    check: ResourceNameCheck = container_resource_name,
) -> None:
    """limits, requests and claims; `claims` are the names of the pod's own resource claims."""
    if not requirements:
        return
    limits, requests = requirements.get("limits") or {}, requirements.get("requests") or {}
    for name in sorted(limits):
        _limit(errors, f"{path}.limits[{name}]", name, limits[name], check)
    for name in sorted(requests):
        _limit(errors, f"{path}.requests[{name}]", name, requests[name], check)
        _request(errors, path, name, requests[name], limits)
    names = {*limits, *requests}
    if names and not names & {"cpu", "memory"} and any(name.startswith(HUGE_PAGES) for name in names):
        errors.forbidden(path, "HugePages require cpu or memory")
    if wanted := requirements.get("claims"):
        _claim_names(errors, f"{path}.claims", wanted, claims)


def _claim_names(errors: Errors, path: str, wanted: list[Struct], claims: frozenset[str]) -> None:
    seen: set[str] = set()
    for i, claim in enumerate(wanted):
        name, request, where = claim.get("name", ""), claim.get("request", ""), f"{path}[{i}]"
        if not name:
            errors.required(where)
            continue
        if name in seen:
            errors.duplicate(where, name)
        else:
            _claim_request(errors, where, name, request, seen)
        if name not in claims:
            listed = ": " + ", ".join(sorted(claims)) if claims else " which is empty"
            errors.not_found(where, name, "must be one of the names in pod.spec.resourceClaims" + listed)


def _claim_request(errors: Errors, where: str, name: str, request: str, seen: set[str]) -> None:
    key = f"{name}/{request}" if request else name
    if request:
        errors.each(f"{where}.request", request, dns_label(request))
    if key in seen:
        errors.duplicate(where, key)
    elif not request:
        for _ in (other for other in seen if other.startswith(f"{name}/")):
            errors.duplicate(where, name)
    seen.add(key)

"""Requests and limits of a whole pod, of its containers together, and the QoS class that follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api.quantity import Quantity, parse
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.quantities import HUGE_PAGES, amount, pod_resource_name, resource_requirements

Struct = Mapping[str, Any]
Totals = dict[str, Quantity]

_COMPUTE = ("cpu", "memory")


def _add(totals: Totals, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        quantity = parse(str(value))
        totals[name] = totals[name] + quantity if name in totals else quantity


def _largest(totals: Totals, others: Totals) -> None:
    for name, quantity in others.items():
        if name not in totals or totals[name] < quantity:
            totals[name] = quantity


def aggregate(spec: Struct, which: str) -> Totals:
    """What the containers ask for together (`which`: requests or limits): all regular ones and sidecars at once,
    or the init container that asks for most, whichever is more (KEP-753)."""
    totals: Totals = {}
    for container in spec.get("containers") or ():
        _add(totals, (container.get("resources") or {}).get(which) or {})
    sidecars: Totals = {}
    peak: Totals = {}
    for container in spec.get("initContainers") or ():
        values = (container.get("resources") or {}).get(which) or {}
        if container.get("restartPolicy") == "Always":
            _add(totals, values)
            _add(sidecars, values)
            _largest(peak, sidecars)
        else:
            now = dict(sidecars)
            _add(now, values)
            _largest(peak, now)
    _largest(totals, peak)
    return totals


def pod_resources(errors: Errors, path: str, spec: Struct, claims: frozenset[str]) -> None:
    resources: Struct = spec["resources"]
    if (spec.get("os") or {}).get("name") == "windows":
        errors.forbidden(path, "may not be set for a windows pod")
        return
    if resources.get("claims"):
        errors.forbidden(f"{path}.claims", "claims may not be set for Resources at pod-level")
    resource_requirements(errors, path, resources, claims, pod_resource_name)
    _consistent(errors, path, spec, resources)


def _consistent(errors: Errors, path: str, spec: Struct, resources: Struct) -> None:
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for name, quantity in sorted(aggregate(spec, "requests").items()):
        if name in requests and quantity > parse(str(requests[name])):
            detail = f"must be greater than or equal to aggregate container requests of {quantity}"
            errors.invalid(f"{path}.requests[{name}]", requests[name], detail)
    for name, quantity in sorted(aggregate(spec, "limits").items()):
        if name.startswith(HUGE_PAGES) and name in limits and quantity > parse(str(limits[name])):
            detail = f"must be greater than or equal to aggregate container limits of {quantity}"
            errors.invalid(f"{path}.limits[{name}]", limits[name], detail)
    for i, container in enumerate(spec.get("containers") or ()):
        own = (container.get("resources") or {}).get("limits") or {}
        for name in sorted(own):
            if name in limits and amount(own[name]) > amount(limits[name]):
                detail = f"must be less than or equal to pod limits of {limits[name]}"
                errors.invalid(f"{path}.containers[{i}][{name}].limits", own[name], detail)


def _compute(lists: Iterable[Struct], totals: dict[str, int]) -> None:
    for values in lists:
        for name in _COMPUTE:
            if (number := amount(values.get(name))) > 0:
                totals[name] = totals.get(name, 0) + number


def qos_class(spec: Struct) -> str:
    """BestEffort, Burstable or Guaranteed, from cpu and memory alone."""
    if spec.get("resources") is not None:
        holders = [spec["resources"]]
    else:
        listed = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
        holders = [container.get("resources") or {} for container in listed]
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    _compute((holder.get("requests") or {} for holder in holders), requests)
    _compute((holder.get("limits") or {} for holder in holders), limits)
    if not requests and not limits:
        return "BestEffort"
    everywhere = all(amount((holder.get("limits") or {}).get(name)) > 0 for holder in holders for name in _COMPUTE)
    return "Guaranteed" if everywhere and requests == limits else "Burstable"

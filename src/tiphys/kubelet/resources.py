"""Requests and limits: sums over a pod, and its quality of service. Pure. What cgroups make of them: limits.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.quantity import Quantity, from_units, parse
from tiphys.kubelet.podspec import Object, init_containers, is_sidecar, main_containers

Amounts = dict[str, Quantity]

_ZERO = from_units(0)
_COMPUTE = ("cpu", "memory")


def amounts(source: Mapping[str, Any] | None) -> Amounts:
    """A resource list of the API, parsed."""
    return {name: parse(str(text)) for name, text in (source or {}).items()}


def zero(source: Mapping[str, Quantity], name: str) -> Quantity:
    """The amount of that name, 0 where there is none."""
    return source.get(name, _ZERO)


def _add(total: Amounts, more: Mapping[str, Quantity]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, _ZERO) + amount


def _at_least(total: Amounts, other: Mapping[str, Quantity]) -> None:
    for name, amount in other.items():
        if total.get(name, _ZERO) < amount:
            total[name] = amount


def containers_total(pod: Object, kind: str) -> Amounts:
    """`requests` or `limits`: the sum over main containers and sidecars, or what the hungriest init container needs."""
    total: Amounts = {}
    for container in main_containers(pod):
        _add(total, amounts((container.get("resources") or {}).get(kind)))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in init_containers(pod):
        own = amounts((container.get("resources") or {}).get(kind))
        if is_sidecar(container):
            _add(total, own)
            _add(sidecars, own)
            _at_least(peak, sidecars)
        else:
            step = dict(sidecars)
            _add(step, own)
            _at_least(peak, step)
    _at_least(total, peak)
    return total


def _pod_total(pod: Object, kind: str) -> Amounts:
    """What the pod as a whole says counts before its containers'."""
    return containers_total(pod, kind) | amounts((pod["spec"].get("resources") or {}).get(kind))


def pod_requests(pod: Object) -> Amounts:
    """What the scheduler counts for it, with the overhead of its RuntimeClass."""
    total = _pod_total(pod, "requests")
    _add(total, amounts(pod["spec"].get("overhead")))
    return total


def pod_limits(pod: Object) -> Amounts:
    """Of the whole pod; overhead adds to limits that are there."""
    total = _pod_total(pod, "limits")
    _add(total, {name: amount for name, amount in amounts(pod["spec"].get("overhead")).items() if name in total})
    return total


def qos_class(pod: Object) -> str:
    """Guaranteed, Burstable or BestEffort; the status has it once the API server has set it."""
    known = (pod.get("status") or {}).get("qosClass")
    return str(known) if known else computed_qos(pod)


def computed_qos(pod: Object) -> str:
    """What follows from the spec."""
    own = pod["spec"].get("resources")
    sources = [own] if own else [(c.get("resources") or {}) for c in (*main_containers(pod), *init_containers(pod))]
    requests: Amounts = {}
    limits: Amounts = {}
    guaranteed = True
    for source in sources:
        mine = _positive(source.get("limits"))
        _add(requests, _positive(source.get("requests")))
        _add(limits, mine)
        guaranteed = guaranteed and len(mine) == len(_COMPUTE)
    if not requests and not limits:
        return "BestEffort"
    if guaranteed and requests == limits:
        return "Guaranteed"
    return "Burstable"


def _positive(source: Mapping[str, Any] | None) -> Amounts:
    return {name: amount for name, amount in amounts(source).items() if name in _COMPUTE and amount > _ZERO}


def milli(source: Mapping[str, Quantity], name: str) -> int:
    """Thousandths, 0 where there is none."""
    return source[name].milli if name in source else 0


def whole(source: Mapping[str, Quantity], name: str) -> int:
    """Bytes or pieces, 0 where there is none."""
    return source[name].value if name in source else 0


def container_limit(pod: Object, container: Object, name: str) -> Quantity:
    """The container's own limit, else that of the pod as a whole; 0 for none."""
    own = zero(amounts((container.get("resources") or {}).get("limits")), name)
    return own if own > _ZERO else zero(amounts((pod["spec"].get("resources") or {}).get("limits")), name)

"""What a pod asks for, by the rules of KEP-753 (sidecars) and KEP-2837 (pod-level resources).

The scheduler adds these numbers up, the kubelet admits and limits by them, quotas count them. Amounts are whole
numbers: millicores for cpu, units (bytes, devices, pods) for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api import quantity

Object = Mapping[str, Any]
Amounts = dict[str, int]


def amounts(values: Mapping[str, Any] | None) -> Amounts:
    """A ResourceList as whole numbers, rounded up."""
    return {name: _whole(name, quantity.parse(str(value))) for name, value in (values or {}).items()}


def _whole(name: str, amount: quantity.Quantity) -> int:
    return amount.milli if name == "cpu" else amount.value


def requests(pod: Object) -> Amounts:
    """What the scheduler must find on a node: containers, the init containers' peak, overhead."""
    return _total(pod["spec"], "requests")


def limits(pod: Object) -> Amounts:
    """Upper bounds by the same rules; a resource that some container leaves unbounded is still listed."""
    return _total(pod["spec"], "limits")


def _total(spec: Object, which: str) -> Amounts:
    running: Amounts = {}
    for container in spec.get("containers") or ():
        _add(running, _of(container, which))
    total = _with_init(spec.get("initContainers") or (), running, which)
    total.update(_of(spec, which))
    _add(total, amounts(spec.get("overhead")) if total or which == "requests" else {})
    return total


def _with_init(containers: Iterable[Object], running: Amounts, which: str) -> Amounts:
    """The greater of the steady state (with sidecars) and each init container's moment."""
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in containers:
        own = _of(container, which)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, own)
            moment = dict(sidecars)
        else:
            moment = dict(sidecars)
            _add(moment, own)
        _raise_to(peak, moment)
    total = dict(running)
    _add(total, sidecars)
    _raise_to(total, peak)
    return total


def _of(holder: Object, which: str) -> Amounts:
    return amounts((holder.get("resources") or {}).get(which))


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _raise_to(total: Amounts, floor: Amounts) -> None:
    for name, amount in floor.items():
        total[name] = max(total.get(name, 0), amount)

"""Requests and limits: sums over a pod, its quality of service, and the numbers for cgroups. Pure.

Formulas are upstream's: 1024 shares a core, quota in a period of 100 ms, at least 2 shares and 1 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api.quantity import Quantity, from_units, parse
from tiphys.kubelet.podspec import Object, init_containers, is_sidecar, main_containers
from tiphys.runtime.types import Resources

Amounts = dict[str, Quantity]

PERIOD = 100_000
_MIN_QUOTA = 1000
_MIN_SHARES, _MAX_SHARES = 2, 262_144
_ZERO = from_units(0)
_COMPUTE = ("cpu", "memory")


def amounts(source: Mapping[str, Any] | None) -> Amounts:
    """A resource list of the API, parsed."""
    return {name: parse(str(text)) for name, text in (source or {}).items()}


def _add(total: Amounts, more: Mapping[str, Quantity]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, _ZERO) + amount


def _at_least(total: Amounts, other: Mapping[str, Quantity]) -> None:
    for name, amount in other.items():
        if total.get(name, _ZERO) < amount:
            total[name] = amount


def _pod_total(pod: Object, kind: str) -> Amounts:
    """Sum over main containers and sidecars, or what the hungriest init container needs while it runs."""
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
    total |= amounts((pod["spec"].get("resources") or {}).get(kind))
    return total


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
    return str(known) if known else _computed_qos(pod)


def _computed_qos(pod: Object) -> str:
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


def cpu_shares(milli: int) -> int:
    """Relative weight for this many millicores requested."""
    return max(_MIN_SHARES, min(milli * 1024 // 1000, _MAX_SHARES))


def cpu_quota(milli: int) -> int:
    """Microseconds in each period for this many millicores at most; 0: no limit."""
    return max(milli * PERIOD // 1000, _MIN_QUOTA) if milli else 0


def _milli(source: Mapping[str, Quantity], name: str) -> int:
    return source[name].milli if name in source else 0


def _bytes(source: Mapping[str, Quantity], name: str) -> int:
    return source[name].value if name in source else 0


def container_resources(pod: Object, container: Object, machine_memory: int, pids_limit: int = 0) -> Resources:
    """Cgroup numbers of one container. `machine_memory` is in bytes."""
    own = container.get("resources") or {}
    limits = amounts(own.get("limits"))
    requests = amounts(own.get("requests"))
    cpu = _milli(requests, "cpu") if "cpu" in requests else _milli(limits, "cpu")
    return Resources(
        cpu_shares=cpu_shares(cpu),
        cpu_quota=cpu_quota(_milli(limits, "cpu")),
        cpu_period=PERIOD,
        memory_limit=_bytes(limits, "memory"),
        pids_limit=pids_limit,
        oom_score_adj=oom_score_adjust(pod, container, machine_memory),
    )


def pod_resources(pod: Object, pids_limit: int = 0) -> Resources:
    """Cgroup numbers of the pod as a whole; limits only where every container has one."""
    requests, limits = pod_requests(pod), pod_limits(pod)
    if qos_class(pod) == "BestEffort":
        return Resources(cpu_shares=_MIN_SHARES, pids_limit=pids_limit)
    containers = [*main_containers(pod), *init_containers(pod)]
    return Resources(
        cpu_shares=cpu_shares(_milli(requests, "cpu")),
        cpu_quota=cpu_quota(_milli(limits, "cpu")) if _all_limited(pod, containers, "cpu") else 0,
        cpu_period=PERIOD,
        memory_limit=_bytes(limits, "memory") if _all_limited(pod, containers, "memory") else 0,
        pids_limit=pids_limit,
    )


def _all_limited(pod: Object, containers: Iterable[Object], name: str) -> bool:
    if name in ((pod["spec"].get("resources") or {}).get("limits") or {}):
        return True
    return all(name in ((container.get("resources") or {}).get("limits") or {}) for container in containers)


def oom_score_adjust(pod: Object, container: Object, machine_memory: int) -> int:
    """-997 guaranteed, 1000 best effort, between by the share of the machine's memory that is requested."""
    if pod["spec"].get("priorityClassName") == "system-node-critical":
        return -997
    qos = qos_class(pod)
    if qos == "Guaranteed":
        return -997
    if qos == "BestEffort":
        return 1000
    requested = _requested_memory(container)
    score = 1000 - 1000 * requested // max(1, machine_memory)
    if is_sidecar(container) and main_containers(pod):
        least = min(_requested_memory(main) for main in main_containers(pod))
        score = min(score, 1000 - 1000 * least // max(1, machine_memory))
    return min(max(score, 3), 999)


def _requested_memory(container: Object) -> int:
    return _bytes(amounts((container.get("resources") or {}).get("requests")), "memory")

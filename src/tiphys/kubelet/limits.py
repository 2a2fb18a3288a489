"""From requests and limits to numbers for cgroups: of containers, of pods, of the tiers that pods are in. Pure.

Formulas are upstream's: 1024 shares a core, quota in a period of 100 ms, at least 2 shares and 1 ms; weights of
v2 by a line from (2 shares, 1) to (262144, 10000) for what the kubelet makes itself, while containers have runc's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.quantity import Quantity
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.machine import Machine
from tiphys.kubelet.podspec import Object, init_containers, is_sidecar, main_containers
from tiphys.kubelet.resources import (
    amounts,
    container_limit,
    containers_total,
    milli,
    pod_limits,
    pod_requests,
    qos_class,
    whole,
    zero,
)
from tiphys.runtime.types import Cgroups, Resources

PERIOD = 100_000
MIN_SHARES, MAX_SHARES = 2, 262_144
_MIN_QUOTA = 1000
_PAGE = 4096
_SYSTEM_CRITICAL = 2_000_000_000
_GUARANTEED_SCORE = -997
HUGEPAGES = "hugepages-"


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for all pods of a node. Sizes in bytes, times in microseconds."""

    memory: int
    """Of the node."""
    swap: int = 0
    """Of the machine."""
    page_sizes: tuple[int, ...] = ()
    """Of the huge pages that the kernel knows."""
    cfs_quota: bool = True
    cfs_period: int = PERIOD
    pids_limit: int = 0
    """Of a pod; 0: none."""
    v2: bool = False
    swap_controller: bool = False
    limited_swap: bool = False
    kill_groups: bool = False
    """Whether the whole container dies with one of its processes when memory runs out (v2 only)."""
    memory_qos: bool = False
    tiered_reservation: bool = False
    throttling: float = 0.9
    allocatable_memory: int = 0


@dataclass(frozen=True, slots=True)
class Assigned:
    """CPUs and memory nodes that managers assigned to a container, as lists; "" for any."""

    cpus: str = ""
    mems: str = ""
    exclusive: bool = False
    """Whether nobody else has these CPUs: then no quota is needed."""


ANY = Assigned()


def make_rules(config: KubeletConfig, machine: Machine, cgroups: Cgroups) -> Rules:
    """Of this node."""
    kill_groups = not config.single_process_oom_kill if config.single_process_oom_kill is not None else True
    return Rules(
        memory=machine.memory,
        swap=machine.swap,
        page_sizes=tuple(size for size, _ in machine.hugepages),
        cfs_quota=config.cpu_cfs_quota,
        cfs_period=round(config.cpu_cfs_quota_period * 1_000_000),
        pids_limit=config.pod_pids_limit,
        v2=cgroups.version == 2,
        swap_controller=cgroups.swap,
        limited_swap=config.memory_swap_behavior == "LimitedSwap",
        kill_groups=kill_groups and cgroups.version == 2,
        memory_qos=bool(config.feature_gates.get("MemoryQoS")) and cgroups.version == 2,
        tiered_reservation=config.memory_reservation_policy == "TieredReservation",
        throttling=config.memory_throttling_factor,
    )


def cpu_shares(requested: int) -> int:
    """Relative weight for this many millicores requested."""
    return max(MIN_SHARES, min(requested * 1024 // 1000, MAX_SHARES))


def cpu_quota(limit: int, period: int = PERIOD) -> int:
    """Microseconds in each period for this many millicores at most; 0: no limit."""
    return max(limit * period // 1000, _MIN_QUOTA) if limit else 0


def cpu_weight(shares: int) -> int:
    """cpu.weight of what the kubelet makes itself."""
    return 10_000 if shares >= MAX_SHARES else 1 + (shares - 2) * 9999 // 262_142


def milli_of_shares(shares: int) -> int:
    """Millicores that these shares stand for, rounded up; 0 for the least there can be."""
    return -(-shares * 1000 // 1024) if shares >= MIN_SHARES else 0


def page_size_name(size: int) -> str:
    """As the kernel has it in file names: 64KB, 2MB, 1GB."""
    for unit, factor in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if size >= factor:
            return f"{size // factor}{unit}"
    return f"{size}B"


def container_resources(pod: Object, container: Object, rules: Rules, assigned: Assigned = ANY) -> Resources:
    """Cgroup numbers of one container."""
    own = container.get("resources") or {}
    requests = amounts(own.get("requests"))
    cpu_limit = container_limit(pod, container, "cpu").milli
    cpu = milli(requests, "cpu") if "cpu" in requests else cpu_limit
    memory_limit = container_limit(pod, container, "memory").value
    swap = swap_limit(pod, container, rules)
    return Resources(
        cpu_shares=cpu_shares(cpu),
        cpu_quota=_quota(cpu_limit, rules, assigned.exclusive),
        cpu_period=rules.cfs_period,
        cpuset_cpus=assigned.cpus,
        cpuset_mems=assigned.mems,
        memory_limit=memory_limit,
        memory_swap=swap,
        hugepages=_hugepages(pod, own, rules),
        unified=_unified(pod, container, rules),
        oom_score_adj=oom_score_adjust(pod, container, rules.memory),
    )


def _quota(limit: int, rules: Rules, exclusive: bool) -> int:
    if not rules.cfs_quota:
        return 0
    return -1 if exclusive else cpu_quota(limit, rules.cfs_period)


def _hugepages(pod: Object, own: Mapping[str, Any], rules: Rules) -> tuple[tuple[str, int], ...]:
    """Of every size: what is not asked for is not to be had."""
    limits = amounts((pod["spec"].get("resources") or {}).get("limits")) | amounts(own.get("limits"))
    asked = {_page_size(name): amount.value for name, amount in limits.items() if name.startswith(HUGEPAGES)}
    return tuple((page_size_name(size), asked.get(size, 0)) for size in rules.page_sizes)


def _page_size(name: str) -> int:
    return amounts({"size": name.removeprefix(HUGEPAGES)})["size"].value


def swap_limit(pod: Object, container: Object, rules: Rules) -> int | None:
    """Bytes that a container may swap out; None where that cannot be limited."""
    if not rules.swap_controller:
        return None
    if not may_swap(pod, container, rules) or not rules.memory:
        return 0
    requested = whole(amounts((container.get("resources") or {}).get("requests")), "memory")
    return 0 if requested > rules.memory else int(requested / rules.memory * rules.swap)


def may_swap(pod: Object, container: Object, rules: Rules) -> bool:
    """Containers of burstable pods may, unless they ask for no memory or for all that they may have (KEP-2400)."""
    if not (rules.limited_swap and rules.v2) or is_critical(pod) or qos_class(pod) != "Burstable":
        return False
    own = container.get("resources") or {}
    request, limit = (whole(amounts(own.get(kind)), "memory") for kind in ("requests", "limits"))
    return bool(request or limit) and request != limit


def is_critical(pod: Object) -> bool:
    """Static pods, and those of the system's priorities."""
    notes = pod["metadata"].get("annotations") or {}
    static = notes.get("kubernetes.io/config.source", "api") != "api" or "kubernetes.io/config.mirror" in notes
    return static or int(pod["spec"].get("priority") or 0) >= _SYSTEM_CRITICAL


def _unified(pod: Object, container: Object, rules: Rules) -> tuple[tuple[str, str], ...]:
    if not rules.v2:
        return ()
    files = {"memory.oom.group": "1"} if rules.kill_groups else {}
    if rules.memory_qos:
        files |= _memory_qos(pod, container, rules)
    return tuple(files.items())


def _memory_qos(pod: Object, container: Object, rules: Rules) -> dict[str, str]:
    """What is kept for a container, and from where on it is slowed down (KEP-2570)."""
    own = container.get("resources") or {}
    request, limit = (whole(amounts(own.get(kind)), "memory") for kind in ("requests", "limits"))
    if request and rules.tiered_reservation:
        files = {"memory.min" if qos_class(pod) == "Guaranteed" else "memory.low": str(request)}
    else:
        files = {"memory.min": "0", "memory.low": "0"}
    most = limit or rules.allocatable_memory
    if request != limit and most:
        high = int((request + (most - request) * rules.throttling) / _PAGE) * _PAGE
        if high > request:
            files["memory.high"] = str(high)
    return files


def pod_resources(pod: Object, rules: Rules, exclusive: bool = False) -> Resources:
    """Cgroup numbers of the pod as a whole; limits only where every container has one."""
    requests, limits, qos = pod_requests(pod), pod_limits(pod), qos_class(pod)
    shares = MIN_SHARES if qos == "BestEffort" else cpu_shares(milli(requests, "cpu"))
    limited = {name for name in ("cpu", "memory") if qos != "BestEffort" and _all_limited(pod, name)}
    quota = 0
    if "cpu" in limited:
        quota = cpu_quota(milli(limits, "cpu"), rules.cfs_period) if rules.cfs_quota and not exclusive else -1
    return Resources(
        cpu_shares=shares,
        cpu_weight=cpu_weight(shares),
        cpu_quota=quota,
        cpu_period=rules.cfs_period,
        memory_limit=whole(limits, "memory") if "memory" in limited else 0,
        pids_limit=rules.pids_limit,
        hugepages=tuple(
            (page_size_name(_page_size(name)), amount.value)
            for name, amount in sorted(requests.items())
            if name.startswith(HUGEPAGES)
        ),
        unified=_pod_reservation(qos, whole(requests, "memory"), rules),
    )


def _pod_reservation(qos: str, requested: int, rules: Rules) -> tuple[tuple[str, str], ...]:
    if not (rules.v2 and rules.memory_qos and rules.tiered_reservation and requested):
        return ()
    return (("memory.min" if qos == "Guaranteed" else "memory.low", str(requested)),)


def _all_limited(pod: Object, name: str) -> bool:
    containers: Iterable[Object] = (*main_containers(pod), *init_containers(pod))
    return _limits(pod["spec"], name) or all(_limits(container, name) for container in containers)


def _limits(source: Mapping[str, Any], name: str) -> bool:
    return zero(amounts((source.get("resources") or {}).get("limits")), name).nanos > 0


def oom_score_adjust(pod: Object, container: Object, machine_memory: int) -> int:
    """-997 guaranteed, 1000 best effort, between by the share of the machine's memory that is requested; what a pod
    as a whole requests beyond its containers counts for each of them alike."""
    qos = qos_class(pod)
    if qos == "Guaranteed" or (is_critical(pod) and pod["spec"].get("priorityClassName") == "system-node-critical"):
        return _GUARANTEED_SCORE
    if qos == "BestEffort":
        return 1000
    rest = _unclaimed_memory(pod)
    score = 1000 - 1000 * (_requested_memory(container) + rest) // max(1, machine_memory)
    if is_sidecar(container) and main_containers(pod):
        least = min(_requested_memory(main) for main in main_containers(pod)) + rest
        score = min(score, 1000 - 1000 * least // max(1, machine_memory))
    return min(max(score, 3), 999)


def _unclaimed_memory(pod: Object) -> int:
    """The pod's own request less its containers', in equal parts."""
    own: Mapping[str, Quantity] = amounts((pod["spec"].get("resources") or {}).get("requests"))
    if not whole(own, "memory"):
        return 0
    count = len(main_containers(pod)) + len(init_containers(pod))
    return (whole(own, "memory") - whole(containers_total(pod, "requests"), "memory")) // max(1, count)


def _requested_memory(container: Object) -> int:
    return whole(amounts((container.get("resources") or {}).get("requests")), "memory")

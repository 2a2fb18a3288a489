"""What a node has, what of it is kept back, and what is left for pods. Pure.

Sums are those of upstream's node allocatable: reservations for the system and for Kubernetes, hard eviction thresholds
of memory and of the disk, and huge pages, which are taken from memory.
"""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.api.quantity import Quantity, from_units, parse
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.cpusets import parse_cpus
from tiphys.kubelet.limits import HUGEPAGES, MIN_SHARES, cpu_shares, cpu_weight, page_size_name
from tiphys.kubelet.machine import Machine
from tiphys.kubelet.resources import Amounts, amounts, zero
from tiphys.runtime.types import Resources

_ZERO = from_units(0)
_EVICTION = {"memory.available": "memory", "nodefs.available": "ephemeral-storage"}


def capacity(config: KubeletConfig, machine: Machine) -> Amounts:
    """What the machine has, or what the configuration says instead."""
    found = {
        "cpu": from_units(machine.cpus),
        "ephemeral-storage": bytes_of(machine.disk),
        "memory": bytes_of(machine.memory),
        "pods": from_units(config.max_pods),
    }
    found |= {_hugepages(size): bytes_of(total) for size, total in machine.hugepages}
    return dict(sorted((found | amounts(config.capacity)).items()))


def bytes_of(count: int) -> Quantity:
    """Bytes, written as Ki, Mi ... where that is exact."""
    return Quantity(count * 10**9, "binary")


def _hugepages(size: int) -> str:
    return f"{HUGEPAGES}{bytes_of(size)}"


def reserved(config: KubeletConfig) -> Amounts:
    """For the system and for Kubernetes; CPUs that are named count instead of their number."""
    sums: Amounts = {}
    for source in (amounts(config.system_reserved), amounts(config.kube_reserved)):
        for name, amount in source.items():
            sums[name] = zero(sums, name) + amount
    if config.reserved_system_cpus:
        sums["cpu"] = from_units(len(parse_cpus(config.reserved_system_cpus)))
    return sums


def kept_for_eviction(thresholds: Mapping[str, str], whole: Amounts) -> Amounts:
    """What pods must leave free, so that the node does not come under pressure by what is promised."""
    return {
        name: _threshold(thresholds[signal], zero(whole, name))
        for signal, name in _EVICTION.items()
        if thresholds.get(signal)
    }


def _threshold(text: str, whole: Quantity) -> Quantity:
    if not text.endswith("%"):
        return parse(text)
    return bytes_of(int(whole.value * (float(text[:-1]) / 100)))


def allocatable(config: KubeletConfig, whole: Amounts) -> Amounts:
    """What may be promised to pods."""
    left = _less(whole, reserved(config), kept_for_eviction(config.eviction_hard, whole))
    for name, amount in whole.items():
        if name.startswith(HUGEPAGES):
            left["memory"] = max(left["memory"] - amount, Quantity(0, "binary"))
    return left


def _less(whole: Amounts, *parts: Amounts) -> Amounts:
    left = dict(whole)
    for part in parts:
        for name, amount in part.items():
            if name in left:
                left[name] = left[name] - amount
    return {name: amount if amount > _ZERO else Quantity(0, amount.format) for name, amount in left.items()}


def enforced(config: KubeletConfig, whole: Amounts, pids: int = 0) -> Resources:
    """Limits of the cgroup that all pods are in. `pids` is how many processes the machine can have, 0 for unknown."""
    counted = whole | ({"pid": from_units(pids)} if pids else {})
    return _limits(_less(counted, reserved(config)) if "pods" in config.enforce_node_allocatable else counted)


def reservation(source: Mapping[str, str], *, compressible: bool = False) -> Resources:
    """Limits of the cgroup that a reservation is for; of CPU only if `compressible`."""
    found = amounts(source)
    return _limits({"cpu": found["cpu"]} if compressible and "cpu" in found else {} if compressible else found)


def _limits(found: Amounts) -> Resources:
    shares = cpu_shares(found["cpu"].milli) if "cpu" in found else 0
    sizes = ((parse(name.removeprefix(HUGEPAGES)).value, amount) for name, amount in found.items() if _is_pages(name))
    return Resources(
        cpu_shares=shares,
        cpu_weight=cpu_weight(shares) if shares else 0,
        memory_limit=found["memory"].value if "memory" in found else 0,
        pids_limit=found["pid"].value if "pid" in found else 0,
        hugepages=tuple((page_size_name(size), amount.value) for size, amount in sizes),
    )


def _is_pages(name: str) -> bool:
    return name.startswith(HUGEPAGES)


def tier(milli: int, machine: Machine) -> Resources:
    """Limits of a tier of pods that request `milli` millicores together; huge pages are limited pod by pod."""
    shares = cpu_shares(milli) if milli else MIN_SHARES
    return Resources(
        cpu_shares=shares,
        cpu_weight=cpu_weight(shares),
        hugepages=tuple((page_size_name(size), 1 << 62) for size, _ in machine.hugepages),
    )

"""Policies of the managers and their options, checked as upstream does. Pure; raises Permanent in upstream's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api.quantity import from_units
from tiphys.base.errors import Permanent
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.limits import HUGEPAGES
from tiphys.kubelet.managers.cpus import Options
from tiphys.kubelet.resources import Amounts, amounts, zero

FULL, ACROSS_NODES, BY_SOCKET = "full-pcpus-only", "distribute-cpus-across-numa", "align-by-socket"
ACROSS_CORES, STRICT, BY_CACHE = (
    "distribute-cpus-across-cores",
    "strict-cpu-reservation",
    "prefer-align-cpus-by-uncorecache",
)
_ALPHA, _BETA, _STABLE = (BY_SOCKET, ACROSS_CORES), (ACROSS_NODES,), (FULL, STRICT, BY_CACHE)
_EXCLUSIVE = (
    (FULL, ACROSS_CORES),
    (ACROSS_NODES, ACROSS_CORES),
    (BY_CACHE, ACROSS_CORES),
    (BY_CACHE, ACROSS_NODES),
)
_MAX_NODES = 8


def cpu_options(config: KubeletConfig) -> Options:
    """Of the CPU manager's policy."""
    policy, options = config.cpu_manager_policy, config.cpu_manager_policy_options
    if policy not in ("none", "static"):
        raise Permanent(f'unknown policy: "{policy}"')
    if policy == "none" and options:
        shown = " ".join(f"{name}:{value}" for name, value in sorted(options.items()))
        raise Permanent(f"new none policy error: None policy: received unsupported options=map[{shown}]")
    on = {name for name, value in options.items() if _option(name, value, config.feature_gates)}
    for one, other in _EXCLUSIVE:
        if one in on and other in on:
            text = f"static policy options {one} and {other} can not be used at the same time"
            raise Permanent(f"new static policy error: {text}")
    if BY_SOCKET in on and config.topology_manager_policy == "single-numa-node":
        text = f"Topolgy manager single-numa-node policy is incompatible with CPUManager {BY_SOCKET} policy option"
        raise Permanent(f"new static policy error: {text}")
    return Options(FULL in on, ACROSS_NODES in on, ACROSS_CORES in on, STRICT in on, BY_SOCKET in on)


def _option(name: str, value: str, gates: Mapping[str, bool]) -> bool:
    if name not in (*_ALPHA, *_BETA, *_STABLE):
        raise Permanent(f'new static policy error: unknown CPU Manager Policy option: "{name}"')
    for level, names, default in (("Alpha", _ALPHA, False), ("Beta", _BETA, True)):
        if name in names and not gates.get(f"CPUManagerPolicy{level}Options", default):
            text = f'CPU Manager Policy {level}-level Options not enabled, but option "{name}" provided'
            raise Permanent(f"new static policy error: {text}")
    try:
        return boolean(value)
    except ValueError as error:
        raise Permanent(f'new static policy error: bad value for option "{name}": {error}') from error


def boolean(text: str) -> bool:
    """As Go's strconv.ParseBool; raises ValueError."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def prefers_closest(config: KubeletConfig, nodes: int) -> bool:
    """Of the topology manager; `nodes`: how many NUMA nodes there are."""
    most, closest = _MAX_NODES, False
    for name, value in config.topology_manager_policy_options.items():
        if name == "prefer-closest-numa-nodes":
            try:
                closest = boolean(value)
            except ValueError as error:
                raise Permanent(f'bad value for option "{name}": {error}') from error
        elif name == "max-allowable-numa-nodes":
            most = _most_nodes(name, value)
        else:
            raise Permanent(f'unknown Topology Manager Policy option: "{name}"')
    if nodes > most:
        raise Permanent(f"unsupported on machines with more than {most} NUMA Nodes")
    return closest


def _most_nodes(name: str, value: str) -> int:
    if not value.lstrip("+-").isdigit():
        why = f'strconv.Atoi: parsing "{value}": invalid syntax'
        raise Permanent(f'unable to convert policy option to integer "{name}": {why}')
    if int(value) < _MAX_NODES:
        raise Permanent(f'the minimum value of "{name}" should not be less than {_MAX_NODES}')
    return int(value)


def reserved_memory(config: KubeletConfig, nodes: Iterable[int], expected: Amounts) -> dict[int, dict[str, int]]:
    """By NUMA node and resource, in bytes; together they are what is `expected` to be kept from pods."""
    found: dict[int, dict[str, int]] = {}
    sums: Amounts = {}
    for entry in config.reserved_memory:
        _check_node(entry, nodes)
        for name, amount in amounts(entry.get("limits")).items():
            node = int(entry["numaNode"])
            _check_limit(found, node, name, amount.value)
            found.setdefault(node, {})[name] = amount.value
            sums[name] = zero(sums, name) + amount
    wanted = {name: amount for name, amount in expected.items() if name == "memory" or name.startswith(HUGEPAGES)}
    for name in sorted({*sums, *(name for name, amount in wanted.items() if amount > from_units(0))}):
        if zero(sums, name) != zero(wanted, name):
            text = f'the total amount "{zero(sums, name)}" of type "{name}" is not equal to the value'
            raise Permanent(f'{text} "{zero(wanted, name)}" determined by Node Allocatable feature')
    return found


def _check_node(entry: Mapping[str, Any], nodes: Iterable[int]) -> None:
    if int(entry["numaNode"]) not in nodes:
        text = f"references a NUMA node {entry['numaNode']} that does not exist on this machine"
        raise Permanent(f"the reserved memory configuration {text}")


def _check_limit(found: Mapping[int, Mapping[str, int]], node: int, name: str, size: int) -> None:
    problem = ""
    if name != "memory" and not name.startswith(HUGEPAGES):
        accepted = "[memory hugepages-<HugePageSize>]"
        problem = f'the limit type "{name}" for NUMA node {node} is not supported, only {accepted} is accepted'
    elif not size:
        problem = f'reserved memory may not be zero for NUMA node {node} and resource "{name}"'
    elif name in found.get(node, {}):
        problem = f'the reserved memory has a duplicate value for NUMA node {node} and resource "{name}"'
    if problem:
        raise Permanent(f"invalid configuration: {problem}")

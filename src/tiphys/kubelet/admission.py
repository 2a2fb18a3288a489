"""Whether this node takes a pod that was bound to it: what the scheduler checks, checked again. Pure.

Reasons and messages are upstream's (lifecycle predicates): OutOfcpu, OutOfpods, NodeAffinity, TaintToleration ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.api.quantity import from_units
from tiphys.kubelet.eviction.refusal import is_critical
from tiphys.kubelet.podspec import Object, is_terminal
from tiphys.kubelet.resources import amounts, pod_requests
from tiphys.kubelet.staticpods.manifest import is_static
from tiphys.kubelet.sysctls import forbidden
from tiphys.kubelet.unsupported import apparmor_refusal

Refusal = tuple[str, str]
"""(reason, message)"""

_ZERO = from_units(0)
_UNTOLERATED = "node(s) had taints that the pod didn't tolerate"
_OS = "kubernetes.io/os"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What speaks against a pod: `refusal`, or only a lack of room that other pods could make."""

    refusal: Refusal | None = None
    missing: Mapping[str, int] = field(default_factory=dict)
    """By resource, when nothing else is wrong: how much is not there (millicores of CPU, else units)."""


def admit(
    pod: Object, node: Object, others: Iterable[Object], allowed_sysctls: Iterable[str] = (), apparmor: bool = False
) -> Refusal | None:
    """Why not, or None. `others` are the pods that the node has admitted; `apparmor`: whether its kernel has it."""
    return judge(pod, node, others, allowed_sysctls, apparmor).refusal


def judge(
    pod: Object, node: Object, others: Iterable[Object], allowed_sysctls: Iterable[str] = (), apparmor: bool = False
) -> Verdict:
    """As `admit`, telling a lack of room from what cannot be helped."""
    if refusal := _never(pod, allowed_sysctls, apparmor):
        return Verdict(refusal)
    active = [other for other in others if not is_terminal(other)]
    short = list(_shortages(pod, node, active))
    other = _affinity(pod, node) or _ports(pod, active) or (None if is_static(pod) else _taints(pod, node))
    if not short:
        return Verdict(other)
    refusal = _out_of(*short[0])
    if other is not None:
        return Verdict(other if is_critical(pod) else refusal)
    missing = {name: requested - (capacity - used) for name, requested, used, capacity in short}
    return Verdict(refusal, missing)


def _never(pod: Object, allowed_sysctls: Iterable[str], apparmor: bool) -> Refusal | None:
    """What no other pod's going would change."""
    if (pod["metadata"].get("labels") or {}).get(_OS, "linux") != "linux":
        text = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
        return "PodOSSelectorNodeLabelDoesNotMatch", text
    if (pod["spec"].get("os") or {}).get("name", "linux") != "linux":
        return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    if sysctl := forbidden(pod, allowed_sysctls):
        return "SysctlForbidden", sysctl
    if profile := apparmor_refusal(pod, apparmor):
        return "AppArmor", profile
    return None


Shortage = tuple[str, int, int, int]
"""(resource, requested, used, capacity)"""


def _shortages(pod: Object, node: Object, others: list[Object]) -> Iterator[Shortage]:
    """What the node has not enough of. Extended resources that it does not know are somebody else's."""
    allocatable = amounts((node.get("status") or {}).get("allocatable"))
    if "pods" in allocatable and len(others) + 1 > allocatable["pods"].value:
        yield "pods", 1, len(others), allocatable["pods"].value
    wanted = {name: amount for name, amount in pod_requests(pod).items() if amount > _ZERO}
    used = [pod_requests(other) for other in others] if wanted else []
    for name in dict.fromkeys(("cpu", "memory", "ephemeral-storage", *sorted(wanted))):
        if name not in wanted or (name not in allocatable and not name.startswith("hugepages-")):
            continue
        taken = sum((one[name] for one in used if name in one), start=_ZERO)
        capacity = allocatable.get(name, _ZERO)
        if taken + wanted[name] > capacity:
            numbers = [one.milli if name == "cpu" else one.value for one in (wanted[name], taken, capacity)]
            yield name, numbers[0], numbers[1], numbers[2]


def _out_of(name: str, requested: int, used: int, capacity: int) -> Refusal:
    numbers = f"requested: {requested}, used: {used}, capacity: {capacity}"
    return f"OutOf{name}", f"Node didn't have enough resource: {name}, {numbers}"


def _affinity(pod: Object, node: Object) -> Refusal | None:
    labels = node["metadata"].get("labels") or {}
    selector = pod["spec"].get("nodeSelector") or {}
    required = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    fits = all(labels.get(key) == value for key, value in selector.items())
    if fits and required is not None:
        fits = any(_matches(term, labels, node) for term in required.get("nodeSelectorTerms") or ())
    if fits:
        return None
    why = "node(s) didn't match Pod's node affinity/selector"
    return "NodeAffinity", f"Predicate NodeAffinity failed: {why}"


def _matches(term: Mapping[str, Any], labels: Mapping[str, str], node: Object) -> bool:
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    known = {"metadata.name": str(node["metadata"]["name"])}
    return all(_holds(one, labels) for one in expressions) and all(_holds(one, known) for one in fields)


def _holds(expression: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    key, operator, wanted = expression["key"], expression["operator"], list(expression.get("values") or ())
    value = values.get(key)
    match operator:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    if value is None or not _is_integer(value) or len(wanted) != 1 or not _is_integer(wanted[0]):
        return False
    return int(value) > int(wanted[0]) if operator == "Gt" else int(value) < int(wanted[0])


def _is_integer(text: Any) -> bool:
    return str(text).removeprefix("-").isdigit()


def _host_ports(pod: Object) -> set[tuple[str, str, int]]:
    """(protocol, address, port) of all that the pod wants of the host."""
    found = set()
    for container in (*pod["spec"].get("containers", ()), *(pod["spec"].get("initContainers") or ())):
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                address = str(port.get("hostIP") or "0.0.0.0")  # noqa: S104 - compared, never bound
                found.add((str(port.get("protocol") or "TCP"), address, int(port["hostPort"])))
    return found


def _ports(pod: Object, others: list[Object]) -> Refusal | None:
    wanted = _host_ports(pod)
    if not wanted:
        return None
    taken = {port for other in others for port in _host_ports(other)}
    wildcard = "0.0.0.0"  # noqa: S104 - compared, never bound
    for protocol, address, port in wanted:
        for other_protocol, other_address, other_port in taken:
            overlap = address == other_address or wildcard in (address, other_address)
            if overlap and (protocol, port) == (other_protocol, other_port):
                why = "node(s) didn't have free ports for the requested pod ports"
                return "NodePorts", f"Predicate NodePorts failed: {why}"
    return None


def _taints(pod: Object, node: Object) -> Refusal | None:
    for taint in node["spec"].get("taints") or ():
        tolerations = pod["spec"].get("tolerations") or ()
        if taint.get("effect") == "NoExecute" and not any(_tolerates(one, taint) for one in tolerations):
            return "TaintToleration", f"Predicate TaintToleration failed: {_UNTOLERATED}"
    return None


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")

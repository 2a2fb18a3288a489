"""What a node has granted its pods of CPU and memory, which a resize may want changed (KEP-1287). Pure.

A pod's spec says what is wanted. The kubelet works with the allocation: what it admitted the pod with, or the last
resize that it granted. Texts are those of kubelet 1.36.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.kubelet.podspec import Object, init_containers, main_containers, uid_of
from tiphys.kubelet.resources import Amounts, amounts, computed_qos, pod_requests, zero

KINDS = ("initContainers", "containers")
SCALABLE = ("cpu", "memory")
INFEASIBLE, DEFERRED = "Infeasible", "Deferred"


@dataclass(frozen=True, slots=True)
class Allocation:
    """Requests and limits that are granted: of each container by name, and of the pod as a whole."""

    containers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pod: Mapping[str, Any] | None = None


def allocation_of(pod: Object) -> Allocation:
    """All that the spec asks for."""
    found = {one["name"]: one.get("resources") or {} for one in (*init_containers(pod), *main_containers(pod))}
    return Allocation(found, pod["spec"].get("resources"))


def allocated(pod: Object, granted: Allocation) -> Object:
    """The pod with what is granted in place of what it asks for; the same object when that is the same."""
    spec = pod["spec"]
    changed: dict[str, Any] = {}
    for kind in KINDS:
        containers = [_with(container, granted) for container in spec.get(kind) or ()]
        if any(one is not other for one, other in zip(containers, spec.get(kind) or (), strict=True)):
            changed[kind] = containers
    if not same(spec.get("resources"), granted.pod):
        changed["resources"] = granted.pod
    if not changed:
        return pod
    merged = {name: value for name, value in {**spec, **changed}.items() if value is not None}
    return {**pod, "spec": merged}


def _with(container: Object, granted: Allocation) -> Object:
    own = granted.containers.get(container["name"])
    if own is None or same(container.get("resources"), own):
        return container
    return {**container, "resources": own}


def same(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two sets of requests and limits mean the same, however they are written."""
    return all(amounts((one or {}).get(kind)) == amounts((other or {}).get(kind)) for kind in ("requests", "limits"))


def increases(pod: Object, granted: Object) -> bool:
    """Whether it asks for more CPU or memory than it has."""
    new, old = pod_requests(pod), pod_requests(granted)
    return any(zero(new, name) > zero(old, name) for name in SCALABLE)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A resize that is not granted yet; `since` in seconds, 0 for one that was not looked at before."""

    pod: Object
    granted: Object
    since: float = 0


def in_order(waiting: Iterable[Waiting]) -> list[Waiting]:
    """Who is served first: who asks for no more, then by priority, then guaranteed pods, then who waits longest."""

    def key(one: Waiting) -> tuple[bool, int, bool, float]:
        priority = int(one.pod["spec"].get("priority") or 0)
        late = one.since or float("inf")
        return increases(one.pod, one.granted), -priority, computed_qos(one.pod) != "Guaranteed", late

    return sorted(waiting, key=key)


@dataclass(frozen=True, slots=True)
class Policies:
    """How the node assigns CPUs and memory: exclusive ones cannot be resized."""

    cpu: str = "none"
    memory: str = "None"
    swaps: bool = False
    """Whether containers of burstable pods may swap."""


def infeasible(pod: Object, granted: Object, policies: Policies) -> str:
    """Why this resize can never be granted here, or ""."""
    if policies.swaps and _changes_swap(pod, granted):
        return "In-place resize of containers with swap is not supported."
    if computed_qos(pod) != "Guaranteed":
        return ""
    for what, policy, resource in (("CPU", policies.cpu, "cpu"), ("Memory", policies.memory, "memory")):
        if policy.lower() == "static" and _changes(pod, granted, resource):
            return f'Resize is infeasible for Guaranteed Pods alongside {what} Manager policy "{policy}"'
    return ""


def _pairs(pod: Object, granted: Object) -> Iterable[tuple[Object, Object]]:
    for kind in KINDS:
        yield from zip(pod["spec"].get(kind) or (), granted["spec"].get(kind) or (), strict=False)


def _requests(container: Object) -> Amounts:
    return amounts((container.get("resources") or {}).get("requests"))


def _changes(pod: Object, granted: Object, resource: str) -> bool:
    return any(
        zero(_requests(one), resource) != zero(_requests(other), resource) for one, other in _pairs(pod, granted)
    )


def _changes_swap(pod: Object, granted: Object) -> bool:
    """What a container may swap out follows from its memory request."""
    if computed_qos(pod) != "Burstable":
        return False
    for one, other in _pairs(pod, granted):
        policies = {entry["resourceName"]: entry["restartPolicy"] for entry in other.get("resizePolicy") or ()}
        if policies.get("memory") == "RestartContainer":
            continue
        if zero(_requests(one), "memory") != zero(_requests(other), "memory") and (_swaps(one) or _swaps(other)):
            return True
    return False


def _swaps(container: Object) -> bool:
    own = container.get("resources") or {}
    request, limit = (zero(amounts(own.get(kind)), "memory") for kind in ("requests", "limits"))
    return request != limit


def effective(pod: Object, status: Mapping[str, Any]) -> Object:
    """For admission of others: each container counts with what it is granted, or what it still has if that is more."""
    actual: dict[str, Mapping[str, Any]] = {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for entry in status.get(kind) or ():
            actual[entry["name"]] = (entry.get("resources") or {}).get("requests") or {}
    spec, changed = pod["spec"], {}
    for kind in KINDS:
        containers = spec.get(kind) or ()
        found = [_at_least(one, actual.get(one["name"]) or {}) for one in containers]
        if any(new is not old for new, old in zip(found, containers, strict=True)):
            changed[kind] = found
    return {**pod, "spec": {**spec, **changed}} if changed else pod


def _at_least(container: Object, has: Mapping[str, Any]) -> Object:
    own = container.get("resources") or {}
    asked = own.get("requests") or {}
    if not has or has == asked:
        return container
    wanted, actual = amounts(asked), amounts(has)
    more = {name: str(actual[name]) for name in SCALABLE if name in actual and zero(wanted, name) < actual[name]}
    if not more:
        return container
    return {**container, "resources": {**own, "requests": {**asked, **more}}}


def summary(prefix: str, pod: Object, generation: int, error: str = "") -> str:
    """Text of an event about a resize: what it is about as JSON, written as Go does."""
    content: dict[str, Any] = {}
    for kind in KINDS:
        if containers := pod["spec"].get(kind):
            content[kind] = [{"name": one["name"], "resources": _listed(one)} for one in containers]
    content["generation"] = generation
    if error:
        content["error"] = error
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return f"{prefix}: {text}"


def _listed(container: Object) -> dict[str, Any]:
    own = container.get("resources") or {}
    listed: dict[str, Any] = {kind: dict(sorted(own[kind].items())) for kind in ("limits", "requests") if own.get(kind)}
    if claims := own.get("claims"):
        listed["claims"] = claims
    return listed


def uids(waiting: Iterable[Waiting]) -> list[str]:
    """Of pods that wait, in order."""
    return [uid_of(one.pod) for one in waiting]

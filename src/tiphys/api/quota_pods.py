"""What a pod uses of a resource quota: its compute resources, summed up with sidecars, init containers and overhead.

While a pod is resized it is charged for the most of what it wants, what it was promised and what it has (KEP-1287).
Amounts keep the suffixes they were written with, so that a quota shows them as its author would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.quantity import Quantity, from_units, parse
from tiphys.base.clock import parse_rfc3339

Object = Mapping[str, Any]
Usage = dict[str, Quantity]

ONE = from_units(1)
COMPUTE = ("cpu", "memory", "ephemeral-storage")
HUGE_PAGES = "hugepages-"
DEVICE_CLASS = "deviceclass.resource.kubernetes.io/"
"""What the name of an extended resource starts with that stands for a device class itself (KEP-5004)."""


def pod_usage(pod: Object, now: float | None = None) -> Usage:
    """ "pods" and its compute resources; nothing once it is over, or should long have ended by `now`."""
    return {} if _over(pod, now) else {"pods": ONE, **compute(_requests(pod), _limits(pod))}


def container_usage(container: Object) -> Usage:
    """The compute resources that one container names."""
    resources = container.get("resources") or {}
    return compute(quantities(resources.get("requests")), quantities(resources.get("limits")))


def compute(requests: Usage, limits: Usage) -> Usage:
    """Requests count under their bare name and under requests.NAME, limits under limits.NAME."""
    out: Usage = {}
    for name, amount in requests.items():
        if name in COMPUTE or name.startswith(HUGE_PAGES):
            out[name] = out[f"requests.{name}"] = amount
        elif extended(name) or name.startswith(DEVICE_CLASS):
            out[f"requests.{name}"] = amount
    out.update({f"limits.{name}": amount for name, amount in limits.items() if name in COMPUTE})
    return out


def extended(name: str) -> bool:
    """Whether it is the name of a resource that is not Kubernetes' own."""
    return "/" in name and "kubernetes.io/" not in name and not name.startswith("requests.")


def quantities(values: Mapping[str, Any] | None) -> Usage:
    return {name: parse(str(value)) for name, value in (values or {}).items()}


def _over(pod: Object, now: float | None) -> bool:
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return True
    end = ends(pod)
    return end is not None and now is not None and now > end


def ends(pod: Object) -> float | None:
    """When a pod that is being deleted stops to count although it is still there, in seconds since the epoch."""
    meta = pod.get("metadata") or {}
    since, grace = meta.get("deletionTimestamp"), meta.get("deletionGracePeriodSeconds")
    return None if not since or grace is None else parse_rfc3339(since) + float(grace)


def _requests(pod: Object) -> Usage:
    total = _aggregate(pod, "requests")
    total.update(_of_pod(pod, "requests"))
    _add(total, quantities(pod["spec"].get("overhead")))
    return total


def _limits(pod: Object) -> Usage:
    total = _aggregate(pod, "limits")
    total.update(_of_pod(pod, "limits"))
    for name, amount in quantities(pod["spec"].get("overhead")).items():
        if name in total and total[name].nanos:
            total[name] += amount
    return total


def _of_pod(pod: Object, which: str) -> Usage:
    """What the pod as a whole names, of the resources that may be given to pods."""
    named = quantities((pod["spec"].get("resources") or {}).get(which))
    return {name: amount for name, amount in named.items() if name in ("cpu", "memory") or name.startswith(HUGE_PAGES)}


def _aggregate(pod: Object, which: str) -> Usage:
    """The greater of what runs in the end, with sidecars, and of each init container's moment (KEP-753)."""
    status = pod.get("status") or {}
    running = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    states = {each["name"]: each for each in running if each.get("resources")}
    impossible = _infeasible(status)
    total: Usage = {}
    for container in pod["spec"].get("containers") or ():
        _add(total, _effective(container, states.get(container["name"]), which, impossible))
    sidecars: Usage = {}
    peak: Usage = {}
    for container in pod["spec"].get("initContainers") or ():
        sidecar = container.get("restartPolicy") == "Always"
        own = _effective(container, states.get(container["name"]) if sidecar else None, which, impossible)
        if sidecar:
            _add(total, own)
            _add(sidecars, own)
            _raise_to(peak, sidecars)
        else:
            moment = dict(own)
            _add(moment, sidecars)
            _raise_to(peak, moment)
    _raise_to(total, peak)
    return total


def _effective(container: Object, state: Object | None, which: str, impossible: bool) -> Usage:
    wanted = quantities((container.get("resources") or {}).get(which))
    if state is None:
        return wanted
    actual = quantities(state["resources"].get(which))
    if impossible:
        wanted = {}
    _raise_to(wanted, actual)
    if which == "requests":
        _raise_to(wanted, quantities(state.get("allocatedResources")))
    return wanted


def _infeasible(status: Object) -> bool:
    """Whether what the pod wants to be resized to can never be."""
    pending = (each for each in status.get("conditions") or () if each.get("type") == "PodResizePending")
    return next((each.get("reason") == "Infeasible" for each in pending), False)


def _add(total: Usage, more: Usage) -> None:
    for name, amount in more.items():
        total[name] = total[name] + amount if name in total else amount


def _raise_to(total: Usage, floor: Usage) -> None:
    for name, amount in floor.items():
        if name not in total or total[name] < amount:
            total[name] = amount


def counts_pods(name: str) -> bool:
    """Whether pods count for a quota's resource."""
    if name in _NAMES or name.startswith((HUGE_PAGES, f"requests.{HUGE_PAGES}")):
        return True
    rest = name.removeprefix("requests.")
    return rest != name and (extended(rest) or rest.startswith(DEVICE_CLASS))


_NAMES = {
    "pods",
    "count/pods",
    *COMPUTE,
    *(f"requests.{name}" for name in COMPUTE),
    *(f"limits.{name}" for name in COMPUTE),
}

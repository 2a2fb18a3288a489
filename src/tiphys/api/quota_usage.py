"""What an object uses of a resource quota, in the quota's own terms (API reference, "Resource Quotas")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api import pod_resources
from tiphys.api.quantity import Quantity, from_milli, from_units, parse

Object = Mapping[str, Any]


Usage = dict[str, Quantity]
ONE = from_units(1)
COUNTED = {"configmaps", "secrets", "replicationcontrollers", "resourcequotas"}
"""Core resources that a quota may also count by their bare name."""
COMPUTE = ("cpu", "memory", "ephemeral-storage")
POD_NAMES = {
    "pods",
    "count/pods",
    *COMPUTE,
    *(f"requests.{name}" for name in COMPUTE),
    *(f"limits.{name}" for name in COMPUTE),
}
MUST_BE_SET = {"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"}
"""A quota on one of these wants every container to say how much."""
CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"


def usage(group: str, plural: str, obj: Object) -> Usage:
    """All that `obj` counts for."""
    counted = {f"count/{plural}.{group}" if group else f"count/{plural}": ONE}
    if group:
        return counted
    special = {"pods": _pod, "services": _service, "persistentvolumeclaims": _claim}.get(plural)
    if special is not None:
        return {**counted, **special(obj)}
    return {**counted, plural: ONE} if plural in COUNTED else counted


def concerned(group: str, plural: str, hard: Iterable[str], used: Usage) -> list[str]:
    """Those of a quota's resources that objects of this resource count for."""
    if group or plural != "pods":
        return [name for name in hard if name in used]
    return [name for name in hard if name in POD_NAMES or _is_pod_extra(name)]


def counts(name: str) -> tuple[str, str] | None:
    """(group, plural) of the resource whose objects count for a quota's resource; None if there is none."""
    if name.startswith("count/"):
        plural, _, group = name.removeprefix("count/").partition(".")
        return group, plural
    if name in POD_NAMES or _is_pod_extra(name):
        return "", "pods"
    if name in COUNTED:
        return "", name
    if name == "services" or name.startswith("services."):
        return "", "services"
    if name in ("persistentvolumeclaims", "requests.storage") or CLASS_SUFFIX in name:
        return "", "persistentvolumeclaims"
    return None


def unset(pod: Object, names: Iterable[str]) -> str:
    """What containers of a pod leave open although a quota limits it, in upstream's words; "" if nothing."""
    wanted = MUST_BE_SET & set(names)
    resources = pod["spec"].get("resources") or {}
    if not wanted or resources.get("requests") or resources.get("limits"):
        return ""
    missing: dict[str, set[str]] = {}
    for group in ("containers", "initContainers"):
        for container in pod["spec"].get(group) or ():
            for name in wanted - _compute_of(container).keys():
                missing.setdefault(name, set()).add(container["name"])
    texts = [f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing)]
    return f"must specify {'; '.join(texts)}" if texts else ""


def in_scope(quota: Object, pod: Object | None) -> bool:
    """Whether a quota's scopes include the pod; None stands for an object that scopes cannot include."""
    spec = quota.get("spec") or {}
    requirements = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    requirements += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    if pod is None:
        return not requirements
    return all(_matches(requirement, pod) for requirement in requirements)


def _matches(requirement: Mapping[str, Any], pod: Object) -> bool:
    scope, spec = str(requirement.get("scopeName")), pod["spec"]
    if scope in ("Terminating", "NotTerminating"):
        return (spec.get("activeDeadlineSeconds") is not None) is (scope == "Terminating")
    if scope in ("BestEffort", "NotBestEffort"):
        asks = any((pod_resources.requests(pod) | pod_resources.limits(pod)).values())
        return asks is (scope == "NotBestEffort")
    if scope == "PriorityClass":
        return _matches_class(requirement, spec.get("priorityClassName", ""))
    return scope == "CrossNamespacePodAffinity" and _crosses_namespaces(spec)


def _matches_class(requirement: Mapping[str, Any], name: str) -> bool:
    operator, values = requirement.get("operator"), requirement.get("values") or ()
    if operator == "Exists":
        return bool(name)
    if operator == "DoesNotExist":
        return not name
    return (name in values) == (operator == "In")


def _crosses_namespaces(spec: Object) -> bool:
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        weighted = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [item.get("podAffinityTerm") or {} for item in weighted]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False


def _pod(pod: Object) -> Usage:
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return {}
    return {"pods": ONE, **_compute(_sums(pod_resources.requests(pod)), _sums(pod_resources.limits(pod)))}


def _compute_of(container: Object) -> Usage:
    resources = container.get("resources") or {}
    return _compute(_quantities(resources.get("requests")), _quantities(resources.get("limits")))


def _compute(requests: Usage, limits: Usage) -> Usage:
    """Requests count under their bare name and under requests.NAME, limits under limits.NAME."""
    out: Usage = {}
    for name, amount in requests.items():
        if name in COMPUTE or name.startswith("hugepages-"):
            out[name] = out[f"requests.{name}"] = amount
        elif "/" in name:
            out[f"requests.{name}"] = amount
    out.update({f"limits.{name}": amount for name, amount in limits.items() if name in COMPUTE})
    return out


def _service(service: Object) -> Usage:
    spec = service.get("spec") or {}
    ports, kind = len(spec.get("ports") or ()), spec.get("type")
    out = {"services": ONE}
    if kind == "LoadBalancer":
        out["services.loadbalancers"] = ONE
        if spec.get("allocateLoadBalancerNodePorts") is False:
            ports = sum(1 for port in spec.get("ports") or () if port.get("nodePort"))
    if kind in ("NodePort", "LoadBalancer") and ports:
        out["services.nodeports"] = from_units(ports)
    return out


def _claim(claim: Object) -> Usage:
    spec = claim.get("spec") or {}
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    annotations = claim["metadata"].get("annotations") or {}
    storage_class = annotations.get(BETA_CLASS) or spec.get("storageClassName")
    out = {"persistentvolumeclaims": ONE}
    if storage is not None:
        out["requests.storage"] = parse(str(storage))
    if storage_class:
        out |= {f"{storage_class}{CLASS_SUFFIX}{name}": amount for name, amount in out.items()}
    return out


def _quantities(values: Mapping[str, Any] | None) -> Usage:
    return {name: parse(str(value)) for name, value in (values or {}).items()}


def _sums(amounts: Mapping[str, int]) -> Usage:
    return {
        name: from_milli(amount) if name == "cpu" else from_units(amount, "binary") for name, amount in amounts.items()
    }


def _is_pod_extra(name: str) -> bool:
    if name.startswith(("hugepages-", "requests.hugepages-")):
        return True
    return name.startswith("requests.") and "/" in name and CLASS_SUFFIX not in name

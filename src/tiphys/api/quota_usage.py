"""What an object uses of a resource quota, in the quota's own terms (API reference, "Resource Quotas")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api.quantity import from_units, parse
from tiphys.api.quota_pods import ONE, Usage, container_usage, counts_pods, pod_usage
from tiphys.api.validation.pod_resources import qos_class

Object = Mapping[str, Any]

COUNTED = {"configmaps", "secrets", "replicationcontrollers", "resourcequotas"}
"""Core resources that a quota may also count by their bare name."""
UNCOUNTED = {("", "events"), ("events.k8s.io", "events"), ("", "bindings")}
"""Resources that quotas have nothing to do with."""
MUST_BE_SET = {"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"}
"""A quota on one of these wants every container to say how much."""
CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
DEVICES = ".deviceclass.resource.k8s.io/devices"
_MOST_DEVICES = 32
"""What a claim for all devices counts for: the most that one allocation may have."""
_CLAIMS = ("", "persistentvolumeclaims")
_RESOURCE_CLAIMS = ("resource.k8s.io", "resourceclaims")


def usage(group: str, plural: str, obj: Object, now: float | None = None) -> Usage:
    """All that `obj` counts for; `now`, in seconds since the epoch, tells which pods should long be gone."""
    if (group, plural) in UNCOUNTED:
        return {}
    counted = {f"count/{plural}.{group}" if group else f"count/{plural}": ONE}
    if (group, plural) == _RESOURCE_CLAIMS:
        return {**counted, **_devices(obj)}
    if group:
        return counted
    if plural == "pods":
        return {**counted, **pod_usage(obj, now)}
    special = {"services": _service, "persistentvolumeclaims": _claim}.get(plural)
    if special is not None:
        return {**counted, **special(obj)}
    return {**counted, plural: ONE} if plural in COUNTED else counted


def concerned(group: str, plural: str, hard: Iterable[str], used: Usage) -> list[str]:
    """Those of a quota's resources that objects of this resource count for."""
    if group or plural != "pods":
        return [name for name in hard if name in used]
    return [name for name in hard if counts_pods(name)]


def counts(name: str) -> tuple[str, str] | None:
    """(group, plural) of the resource whose objects count for a quota's resource; None if there is none."""
    if name.startswith("count/"):
        plural, _, group = name.removeprefix("count/").partition(".")
        return None if (group, plural) in UNCOUNTED else (group, plural)
    if name in COUNTED:
        return "", name
    if name in ("services", "services.nodeports", "services.loadbalancers"):
        return "", "services"
    if name.endswith(DEVICES):
        return _RESOURCE_CLAIMS
    bare = name.partition(CLASS_SUFFIX)[2] or name
    if bare in ("persistentvolumeclaims", "requests.storage"):
        return _CLAIMS
    return ("", "pods") if counts_pods(name) else None


def unset(pod: Object, names: Iterable[str]) -> str:
    """What containers of a pod leave open although a quota limits it, in upstream's words; "" if nothing."""
    wanted = MUST_BE_SET & set(names)
    resources = pod["spec"].get("resources") or {}
    if not wanted or resources.get("requests") or resources.get("limits"):
        return ""
    missing: dict[str, set[str]] = {}
    for group in ("containers", "initContainers"):
        for container in pod["spec"].get(group) or ():
            for name in wanted - container_usage(container).keys():
                missing.setdefault(name, set()).add(container["name"])
    texts = [f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing)]
    return f"must specify {'; '.join(texts)}" if texts else ""


def in_scope(group: str, plural: str, quota: Object, obj: Object) -> bool:
    """Whether a quota's scopes include the object. Only pods and claims can be told apart by scopes."""
    spec = quota.get("spec") or {}
    requirements = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    requirements += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    matches = {("", "pods"): _matches_pod, _CLAIMS: _matches_claim}.get((group, plural))
    return not requirements or (matches is not None and all(matches(each, obj) for each in requirements))


def _matches_pod(requirement: Mapping[str, Any], pod: Object) -> bool:
    scope, spec = str(requirement.get("scopeName")), pod["spec"]
    if scope in ("Terminating", "NotTerminating"):
        return (spec.get("activeDeadlineSeconds") is not None) is (scope == "Terminating")
    if scope in ("BestEffort", "NotBestEffort"):
        known = (pod.get("status") or {}).get("qosClass") or qos_class(spec)
        return (known == "BestEffort") is (scope == "BestEffort")
    if scope == "PriorityClass":
        name = spec.get("priorityClassName")
        return _matches_class(requirement, {name} if name else set())
    return scope == "CrossNamespacePodAffinity" and _crosses_namespaces(spec)


def _matches_claim(requirement: Mapping[str, Any], claim: Object) -> bool:
    """By the classes that a claim has, had or is to have."""
    if requirement.get("scopeName") != "VolumeAttributesClass":
        return False
    status = claim.get("status") or {}
    names = (
        (claim.get("spec") or {}).get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return _matches_class(requirement, {name for name in names if name})


def _matches_class(requirement: Mapping[str, Any], names: set[str]) -> bool:
    """Whether one of the names fits; without a name, whether having none fits."""
    operator, values = requirement.get("operator"), set(requirement.get("values") or ())
    if operator in ("Exists", "DoesNotExist"):
        return bool(names) is (operator == "Exists")
    if operator == "In":
        return bool(names & values)
    return operator == "NotIn" and (not names or bool(names - values))


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
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    annotations = claim["metadata"].get("annotations") or {}
    storage_class = annotations.get(BETA_CLASS, spec.get("storageClassName"))
    out = {"persistentvolumeclaims": ONE}
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is not None:
        wanted = parse(str(storage))
        promised = (status.get("allocatedResources") or {}).get("storage")
        if promised is not None and parse(str(promised)) > wanted:
            wanted = parse(str(promised))
        whole = wanted.nanos % 10**9 == 0
        out["requests.storage"] = wanted if whole else from_units(wanted.value, wanted.format)
    if storage_class:
        out |= {f"{storage_class}{CLASS_SUFFIX}{name}": amount for name, amount in out.items()}
    return out


def _devices(claim: Object) -> Usage:
    """Devices by class, the most that each request may come to."""
    out: Usage = {}
    for request in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ():
        most: Usage = {}
        choices = request.get("firstAvailable") or [each for each in (request.get("exactly"),) if each]
        for choice in choices:
            name = f"{choice.get('deviceClassName', '')}{DEVICES}"
            mode = {"ExactCount": choice.get("count") or 0, "All": _MOST_DEVICES}
            amount = from_units(mode.get(choice.get("allocationMode") or "", 0))
            most[name] = max(most.get(name, amount), amount)
        for name, amount in most.items():
            out[name] = out.get(name, from_units(0)) + amount
    return out

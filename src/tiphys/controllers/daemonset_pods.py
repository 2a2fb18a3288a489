"""The pods of a DaemonSet: on which nodes they belong, how they are made, which revision they are of. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.history import HASH_LABEL
from tiphys.controllers.nodes import NOT_READY, UNREACHABLE, selects_node, taints_of, untolerated
from tiphys.controllers.objects import annotations_of, labels, name, scaled, spec

GENERATION = "deprecated.daemonset.template.generation"
GENERATION_LABEL = "pod-template-generation"
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")

_TOLERATED = (
    (NOT_READY, "NoExecute"),
    (UNREACHABLE, "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
_HOST_NETWORK = ("node.kubernetes.io/network-unavailable", "NoSchedule")


def _limits(daemon_set: Object) -> Mapping[str, Any]:
    strategy = spec(daemon_set).get("updateStrategy") or {}
    return strategy.get("rollingUpdate") or {} if strategy.get("type") == "RollingUpdate" else {}


def max_surge(daemon_set: Object, total: int) -> int:
    return scaled(_limits(daemon_set).get("maxSurge"), total, round_up=True)


def max_unavailable(daemon_set: Object, total: int) -> int:
    return scaled(_limits(daemon_set).get("maxUnavailable"), total, round_up=True)


def hash_of(pod: Object) -> str:
    """The hash of the revision that the pod was made from."""
    return labels(pod).get(HASH_LABEL, "")


def updated(daemon_set: Object, pod: Object, digest: str) -> bool:
    """Whether `pod` is of the revision `digest` (or of the template generation that old clients set)."""
    generation = _generation(daemon_set)
    old_style = generation is not None and labels(pod).get(GENERATION_LABEL) == generation
    return old_style or bool(digest and hash_of(pod) == digest)


def _generation(daemon_set: Object) -> str | None:
    """What its deprecated annotation says, if that is a number."""
    text = annotations_of(daemon_set).get(GENERATION, "")
    return str(int(text)) if _WHOLE.fullmatch(text) else None


def placement(daemon_set: Object) -> Mapping[str, Any]:
    """What of its pods decides where they may run: their spec, with the tolerations that they get."""
    template = spec(daemon_set)["template"].get("spec") or {}
    return {**template, "tolerations": tolerations(template)}


def should_run(pod_spec: Mapping[str, Any], node: Object) -> tuple[bool, bool]:
    """(whether a pod of that `placement` belongs on `node`, whether one that is there may stay)."""
    if pod_spec.get("nodeName") not in (None, "", name(node)) or not selects_node(pod_spec, node):
        return False, False
    taints = taints_of(node)
    if untolerated(pod_spec, taints, ("NoExecute",)):
        return False, False
    return untolerated(pod_spec, taints, ("NoSchedule",)) is None, True


def tolerations(pod_spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The template's tolerations and those that every daemon pod has, to stay on nodes in trouble.

    One of the template's that tolerates the same thing for some time only gives way."""
    wanted = [*_TOLERATED, *([_HOST_NETWORK] if pod_spec.get("hostNetwork") else [])]
    present = list(pod_spec.get("tolerations") or ())
    for key, effect in wanted:
        toleration = {"key": key, "operator": "Exists", "effect": effect}
        if any(_alike(each, toleration) for each in present):
            present = [toleration if _alike(each, toleration) else each for each in present]
        else:
            present.append(toleration)
    return present


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all((one.get(field) or "") == (other.get(field) or "") for field in ("key", "effect", "operator", "value"))


def daemon_pod(daemon_set: Object, node: str, digest: str) -> dict[str, Any]:
    """The pod for `node`. The scheduler binds it: that keeps resource accounting and preemption in one place."""
    pod = podlib.from_template(spec(daemon_set)["template"], daemon_set)
    generation = _generation(daemon_set)
    extra = {HASH_LABEL: digest, **({GENERATION_LABEL: generation} if generation is not None else {})}
    meta = {**pod["metadata"], "labels": {**pod["metadata"].get("labels", {}), **extra}}
    pod_spec = {**pod["spec"], "tolerations": tolerations(pod["spec"]), "affinity": _bound(pod["spec"], node)}
    return {**pod, "metadata": meta, "spec": pod_spec}


def _bound(pod_spec: Mapping[str, Any], node: str) -> dict[str, Any]:
    """The affinity with its required node terms replaced by the name of the one node."""
    affinity = pod_spec.get("affinity") or {}
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    node_affinity = affinity.get("nodeAffinity") or {}
    return {
        **affinity,
        "nodeAffinity": {**node_affinity, "requiredDuringSchedulingIgnoredDuringExecution": required},
    }


def target_node(pod: Object) -> str:
    """The node that it runs on or, before it is bound, is meant for; "" if it names none."""
    if bound := spec(pod).get("nodeName"):
        return str(bound)
    affinity = (spec(pod).get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field["key"] == "metadata.name" and field["operator"] == "In" and len(field["values"]) == 1:
                return str(field["values"][0])
    return ""

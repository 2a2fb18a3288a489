"""Resources in a pod's status: what is granted, and what containers really have. Pure.

A container that runs shows what it has of CPU and memory; anything else shows what it is granted (KEP-1287, KEP-5419).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.kubelet.allocation import KINDS, SCALABLE
from tiphys.kubelet.labels import Record
from tiphys.kubelet.podspec import Object
from tiphys.kubelet.resources import pod_limits, pod_requests


def shown_resources(container: Object, record: Record) -> dict[str, Any]:
    """Of one container's status."""
    granted = dict(container.get("resources") or {})
    if not record.running or record.resources is None:
        return granted
    for kind in ("limits", "requests"):
        actual = record.resources.get(kind) or {}
        if granted.get(kind):
            granted[kind] = granted[kind] | {name: actual[name] for name in SCALABLE if name in actual}
    return granted


def pod_resources_status(pod: Object, records: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """`resources` and `allocatedResources` of the pod's status."""
    actual = _as_it_is(pod, records)
    shown = {
        kind: {name: str(amount) for name, amount in sorted(found.items())}
        for kind, found in (("limits", pod_limits(actual)), ("requests", pod_requests(actual)))
        if found
    }
    status: dict[str, Any] = {"resources": shown}
    if granted := {name: str(amount) for name, amount in sorted(pod_requests(pod).items())}:
        status["allocatedResources"] = granted
    return status


def _as_it_is(pod: Object, records: Mapping[str, Sequence[Record]]) -> Object:
    """The pod with what its running containers have."""
    spec = dict(pod["spec"])
    latest = [found[0] for found in records.values() if found]
    for kind in KINDS:
        if spec.get(kind):
            spec[kind] = [_container(one, records.get(one["name"]) or ()) for one in spec[kind]]
    whole = next((record.pod_resources for record in latest if record.running and record.pod_resources), None)
    if spec.get("resources") and whole:
        spec["resources"] = whole
    return {**pod, "spec": spec}


def _container(container: Object, records: Sequence[Record]) -> Object:
    return {**container, "resources": shown_resources(container, records[0])} if records else container

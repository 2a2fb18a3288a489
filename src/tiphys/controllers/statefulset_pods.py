"""The pods of a StatefulSet: which ordinals they have, how they are made, what their identity is. Pure.

A pod's name, host name, labels and claims follow from the set's name and its ordinal alone, so that the pod which
replaces another is the same one to its peers and to its storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.objects import int_of, labels, name, namespace, spec

REVISION_LABEL = "controller-revision-hash"
"""Of a StatefulSet's pods: the whole name of their ControllerRevision."""

NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"

_LARGEST = 2**31 - 1


def start_of(stateful_set: Object) -> int:
    """The first ordinal."""
    return int_of((spec(stateful_set).get("ordinals") or {}).get("start"))


def replicas_of(stateful_set: Object) -> int:
    return int_of(spec(stateful_set).get("replicas"), 1)


def parent_and_ordinal(pod: Object) -> tuple[str, int]:
    """The set's name and the ordinal that the name of `pod` spells; ("", -1) if it spells none."""
    parent, dash, digits = name(pod).rpartition("-")
    if not dash or not (digits.isascii() and digits.isdigit()):
        return "", -1
    return parent, int(digits) if int(digits) <= _LARGEST else -1


def ordinal_of(pod: Object) -> int:
    return parent_and_ordinal(pod)[1]


def member(stateful_set: Object, pod: Object) -> bool:
    """Whether the name of `pod` is one that the set gives."""
    return parent_and_ordinal(pod)[0] == name(stateful_set)


def in_range(stateful_set: Object, pod: Object) -> bool:
    """Whether its ordinal is one of those that the set has now."""
    start = start_of(stateful_set)
    return start <= ordinal_of(pod) < start + replicas_of(stateful_set)


def revision_of(pod: Object) -> str:
    """The name of the revision that it was made from."""
    return labels(pod).get(REVISION_LABEL, "")


def claim_name(stateful_set: Object, template: Mapping[str, Any], ordinal: int) -> str:
    """The name of the claim that pod `ordinal` has for one of the claim templates."""
    return f"{template['metadata']['name']}-{name(stateful_set)}-{ordinal}"


def claim_templates(stateful_set: Object) -> Sequence[Mapping[str, Any]]:
    return spec(stateful_set).get("volumeClaimTemplates") or ()


def volumes_of(stateful_set: Object, ordinal: int, others: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The volumes of pod `ordinal`: its claims, and those of `others` that no claim replaces."""
    own = {
        template["metadata"]["name"]: claim_name(stateful_set, template, ordinal)
        for template in claim_templates(stateful_set)
    }
    claimed = [{"name": each, "persistentVolumeClaim": {"claimName": claim}} for each, claim in own.items()]
    return [*claimed, *(volume for volume in others if volume["name"] not in own)]


def new_pod(stateful_set: Object, template: Mapping[str, Any], revision: str, ordinal: int) -> dict[str, Any]:
    """The pod of that ordinal, from the template of `revision`."""
    pod = podlib.from_template(template, stateful_set)
    named = f"{name(stateful_set)}-{ordinal}"
    meta = {**pod["metadata"], "name": named, "namespace": namespace(stateful_set)}
    meta["labels"] = {**meta.get("labels", {}), **_identity(named, ordinal), REVISION_LABEL: revision}
    pod_spec = {**pod["spec"], "hostname": named}
    if service := spec(stateful_set).get("serviceName"):
        pod_spec["subdomain"] = service
    else:
        pod_spec.pop("subdomain", None)
    if volumes := volumes_of(stateful_set, ordinal, pod_spec.get("volumes") or ()):
        pod_spec["volumes"] = volumes
    return {**pod, "metadata": meta, "spec": pod_spec}


def _identity(named: str, ordinal: int) -> dict[str, str]:
    return {NAME_LABEL: named, INDEX_LABEL: str(ordinal)}


def identity_matches(pod: Object) -> bool:
    """Whether it is labelled with its name, so that a Service can select this one pod."""
    return labels(pod).get(NAME_LABEL) == name(pod)


def storage_matches(stateful_set: Object, pod: Object) -> bool:
    """Whether each claim template has its claim among the pod's volumes."""
    volumes = {volume["name"]: volume for volume in spec(pod).get("volumes") or ()}
    for template in claim_templates(stateful_set):
        source = (volumes.get(template["metadata"]["name"]) or {}).get("persistentVolumeClaim") or {}
        if source.get("claimName") != claim_name(stateful_set, template, ordinal_of(pod)):
            return False
    return True


def repaired(stateful_set: Object, pod: Object) -> Object:
    """`pod` with the identity and the storage that it must have; the same object if nothing is wrong with it."""
    if identity_matches(pod) and storage_matches(stateful_set, pod):
        return pod
    identity = _identity(name(pod), ordinal_of(pod))
    meta = {**pod["metadata"], "labels": {**labels(pod), **identity}}
    volumes = spec(pod).get("volumes") or ()
    if not storage_matches(stateful_set, pod):
        volumes = volumes_of(stateful_set, ordinal_of(pod), volumes)
    return {**pod, "metadata": meta, "spec": {**spec(pod), "volumes": volumes}}

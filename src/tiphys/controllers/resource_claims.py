"""Dynamic resource allocation: which ResourceClaims a pod has, needs and may let go. Pure rules, upstream's words.

A pod names a claim of its own making, or a template from which one is made for it alone; the claim's generated name
then stands in the pod's status. While `reservedFor` lists a pod, the claim keeps its devices; when the last of them
is done it is deallocated, and if it was made for a pod, deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers.objects import (
    annotations_of,
    controlled_by,
    controller_of,
    deleting,
    finalizers,
    name,
    namespace,
    spec,
    status,
    uid,
)

POD_CLAIM = "resource.kubernetes.io/pod-claim-name"
"""An annotation: which of the pod's claims one was made for."""
FINALIZER = "resource.kubernetes.io/delete-protection"
"""The scheduler's, while a claim is allocated."""

_MOST_CONSUMERS = 256
_LONGEST_BASE = 57
"""Letters before a generated name's hyphen and five random ones."""

GetClaim = Callable[[str, str], Object | None]
"""A claim by namespace and name."""


@dataclass(frozen=True, slots=True)
class Named:
    """What is known of one of a pod's claims: its name ("" as long as none was made), or that none is needed."""

    name: str = ""
    generated: bool = False
    needless: bool = False


def claims_of(pod: Object) -> list[Mapping[str, Any]]:
    return list(spec(pod).get("resourceClaims") or ())


def named(pod: Object, entry: Mapping[str, Any]) -> Named | None:
    """The claim of one entry of a pod's spec; None for an entry that this version of the API does not know."""
    if (own := entry.get("resourceClaimName")) is not None:
        return Named(str(own))
    if entry.get("resourceClaimTemplateName") is None:
        return None
    for each in status(pod).get("resourceClaimStatuses") or ():
        if each.get("name") == entry.get("name"):
            made = each.get("resourceClaimName")
            return Named(str(made), generated=True) if made else Named(generated=True, needless=True)
    return Named(generated=True)


def extended_claim(pod: Object) -> str:
    """The claim that the scheduler made for extended resources; "" for none."""
    return str((status(pod).get("extendedResourceClaimStatus") or {}).get("resourceClaimName") or "")


def claim_keys(pod: Object) -> list[str]:
    """An Indexer: keys of the pod's claims."""
    found = (named(pod, entry) for entry in claims_of(pod))
    names = {each.name for each in found if each is not None and each.name}
    return [f"{namespace(pod)}/{each}" for each in sorted(names)]


def template_keys(pod: Object) -> list[str]:
    """An Indexer: keys of the templates of the pod's claims."""
    names = {str(entry.get("resourceClaimTemplateName") or "") for entry in claims_of(pod)}
    return [f"{namespace(pod)}/{each}" for each in sorted(names - {""})]


def owner_keys(claim: Object) -> list[str]:
    """An Indexer: the uid of the pod for which a claim was made."""
    owner = owning_pod(claim)
    return [owner[1]] if owner else []


def owning_pod(claim: Object) -> tuple[str, str] | None:
    """Name and uid of the pod for which a claim was made."""
    reference = controller_of(claim)
    if reference is None or reference.get("apiVersion") != "v1" or reference.get("kind") != "Pod":
        return None
    return str(reference.get("name") or ""), str(reference.get("uid") or "")


def done(pod: Object) -> bool:
    """Whether the pod will not run any more."""
    if status(pod).get("phase") in ("Succeeded", "Failed"):
        return True
    return deleting(pod) and not spec(pod).get("nodeName")


def is_for(pod: Object, claim: Object) -> bool:
    return namespace(claim) == namespace(pod) and controlled_by(claim, pod)


def to_reserve(pod: Object, claim: Object) -> bool:
    """Whether an allocated claim is still to be reserved for a pod that is on its node already."""
    consumers = status(claim).get("reservedFor") or ()
    if not status(claim).get("allocation") or len(consumers) >= _MOST_CONSUMERS:
        return False
    return all(each.get("uid") != uid(pod) for each in consumers)


def needs_work(pod: Object, get: GetClaim) -> bool:
    """Whether claims are to be made for `pod`, or reserved; for one that has ended they were just taken back."""
    return not (deleting(pod) or done(pod)) and any(_entry_needs_work(pod, entry, get) for entry in claims_of(pod))


def _entry_needs_work(pod: Object, entry: Mapping[str, Any], get: GetClaim) -> bool:
    known = named(pod, entry)
    if known is None:
        return True
    if known.needless:
        return False
    claim = get(namespace(pod), known.name) if known.name else None
    if claim is None:
        return known.generated
    if known.generated and not is_for(pod, claim):
        return False  # nothing helps until that other claim goes
    return bool(spec(pod).get("nodeName")) and to_reserve(pod, claim)


def new_claim(pod: Object, entry: Mapping[str, Any], template: Object) -> dict[str, Any]:
    """The claim to be made for one entry of the pod's spec."""
    body = spec(template)
    meta = body.get("metadata") or {}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": name(pod), "uid": uid(pod), "controller": True}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "generateName": _base_name(name(pod), str(entry["name"])),
            "namespace": namespace(pod),
            "labels": dict(meta.get("labels") or {}),
            "annotations": {**(meta.get("annotations") or {}), POD_CLAIM: str(entry["name"])},
            "ownerReferences": [owner],
        },
        "spec": body.get("spec") or {},
    }


def _base_name(pod: str, entry: str) -> str:
    """Both names, each cut in proportion if they are too long together."""
    base = f"{pod}-{entry}-"
    if len(base) <= _LONGEST_BASE:
        return base
    return f"{pod[: len(pod) * _LONGEST_BASE // len(base)]}-{entry[: len(entry) * _LONGEST_BASE // len(base)]}"


def made_for(entry: str, claims: list[Object]) -> Object | None:
    """The one of a pod's claims that was made for an entry of its spec."""
    return next((claim for claim in claims if annotations_of(claim).get(POD_CLAIM) == entry), None)


def claim_statuses(pod: Object, made: Mapping[str, str]) -> list[dict[str, str]]:
    """What the pod's status is to say of its claims, those `made` included."""
    names = {
        str(each["name"]): str(each["resourceClaimName"])
        for each in status(pod).get("resourceClaimStatuses") or ()
        if each.get("resourceClaimName")
    }
    return [{"name": each, "resourceClaimName": claim} for each, claim in {**names, **made}.items()]


def released(claim: Object, gone: frozenset[str]) -> dict[str, Any] | None:
    """The claim's status without the consumers whose uids are `gone`; None if that changes nothing.

    With the last consumer an allocation that the scheduler made ends as well."""
    consumers = status(claim).get("reservedFor") or ()
    remaining = [each for each in consumers if each.get("uid") not in gone]
    if len(remaining) == len(consumers):
        return None
    changed = {**status(claim), "reservedFor": remaining}
    if not remaining:
        del changed["reservedFor"]
        if FINALIZER in finalizers(claim):
            changed.pop("allocation", None)
    return changed


def unprotected(claim: Object) -> dict[str, Any]:
    """`claim` without the finalizer."""
    kept = [each for each in finalizers(claim) if each != FINALIZER]
    return {**claim, "metadata": {**claim["metadata"], "finalizers": kept}}

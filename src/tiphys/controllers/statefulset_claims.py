"""The claims of a StatefulSet's pods: made from templates, and owned by whoever's end is to delete them. Pure.

persistentVolumeClaimRetentionPolicy (KEP-1847) is kept by owner references: the set's on a claim that goes with the
set, a condemned pod's on a claim that goes with scaling down. A claim that another controller manages is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers.objects import controller_reference, labels, name, namespace, spec, uid
from tiphys.controllers.statefulset_pods import claim_name, claim_templates, in_range, ordinal_of

Claims = Mapping[str, Object]
"""Claims of the set's namespace by name."""


def new_claims(stateful_set: Object, pod: Object) -> list[dict[str, Any]]:
    """The claims that `pod` must have, as they are created."""
    wanted = spec(stateful_set).get("selector") or {}
    made = []
    for template in claim_templates(stateful_set):
        meta = dict(template["metadata"])
        meta["name"] = claim_name(stateful_set, template, ordinal_of(pod))
        meta["namespace"] = namespace(stateful_set)
        if chosen := {**(meta.get("labels") or {}), **(wanted.get("matchLabels") or {})}:
            meta["labels"] = chosen
        kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        claim = {**kind, "metadata": meta, "spec": template.get("spec") or {}}
        made.append(with_owners(stateful_set, pod, claim))
    return made


def existing(stateful_set: Object, pod: Object, claims: Claims) -> list[Object]:
    """Those of the pod's claims that are there."""
    names = (claim_name(stateful_set, template, ordinal_of(pod)) for template in claim_templates(stateful_set))
    return [claims[each] for each in names if each in claims]


def of_a_former_pod(stateful_set: Object, pod: Object, claims: Claims) -> bool:
    """Whether a claim of the new `pod` still is to go with the former pod of that name: it must be gone first."""
    if _policy(stateful_set)[0] == "Retain":
        return False
    return any(_stale(claim, pod, "v1", "Pod") for claim in existing(stateful_set, pod, claims))


def misowned(stateful_set: Object, pod: Object, claims: Claims) -> list[Object]:
    """Those of the pod's claims whose owners are not what the policy says."""
    return [each for each in existing(stateful_set, pod, claims) if not _up_to_date(stateful_set, pod, each)]


def disputed(stateful_set: Object, pod: Object, claims: Claims) -> list[Object]:
    """Those of the pod's claims that another controller manages, though the policy would have us own them."""
    return [each for each in existing(stateful_set, pod, claims) if _unexpected_controller(stateful_set, pod, each)]


def with_owners(stateful_set: Object, pod: Object, claim: Object) -> dict[str, Any]:
    """`claim` with the owner references that the policy asks for."""
    refers = [ref for ref in _owners(claim) if not _names(ref, stateful_set, "apps/v1", "StatefulSet")]
    refers = [ref for ref in refers if not _names(ref, pod, "v1", "Pod")]
    if not _unexpected_controller(stateful_set, pod, claim):
        of_set, of_pod = _wanted(stateful_set, pod)
        refers += [controller_reference(stateful_set)] if of_set else []
        refers += [controller_reference({"apiVersion": "v1", "kind": "Pod", **pod})] if of_pod else []
    meta = {key: value for key, value in claim["metadata"].items() if key != "ownerReferences"}
    return {**claim, "metadata": {**meta, "ownerReferences": refers} if refers else meta}


def selects(stateful_set: Object, claim: Object) -> bool:
    """Whether `claim` may be one of the set's: it has the labels that new claims get."""
    wanted = (spec(stateful_set).get("selector") or {}).get("matchLabels") or {}
    return bool(claim_templates(stateful_set)) and wanted.items() <= labels(claim).items()


def _policy(stateful_set: Object) -> tuple[str, str]:
    """(whenScaled, whenDeleted)."""
    policy = spec(stateful_set).get("persistentVolumeClaimRetentionPolicy") or {}
    return policy.get("whenScaled") or "Retain", policy.get("whenDeleted") or "Retain"


def _wanted(stateful_set: Object, pod: Object) -> tuple[bool, bool]:
    """Whether (the set, the pod) is to own the pod's claims."""
    scaled, deleted = _policy(stateful_set)
    condemned = scaled == "Delete" and not in_range(stateful_set, pod)
    return deleted == "Delete" and not condemned, condemned


def _up_to_date(stateful_set: Object, pod: Object, claim: Object) -> bool:
    if _stale(claim, stateful_set, "apps/v1", "StatefulSet") or _stale(claim, pod, "v1", "Pod"):
        return True
    owned = _owned(claim, stateful_set), _owned(claim, pod)
    if _unexpected_controller(stateful_set, pod, claim):
        return not any(owned)
    ours = {each for each in (uid(stateful_set), uid(pod)) if each}
    if any(ref["uid"] in ours and not ref.get("controller") for ref in _owners(claim)):
        return False
    return owned == _wanted(stateful_set, pod)


def _unexpected_controller(stateful_set: Object, pod: Object, claim: Object) -> bool:
    if _policy(stateful_set) == ("Retain", "Retain"):
        return False
    for reference in _owners(claim):
        if _names(reference, stateful_set, "apps/v1", "StatefulSet"):
            foreign = reference["uid"] != uid(stateful_set)
        elif _names(reference, pod, "v1", "Pod"):
            foreign = reference["uid"] != uid(pod)
        else:
            foreign = bool(reference.get("controller"))
        if foreign:
            return True
    return False


def _owners(claim: Object) -> Sequence[Mapping[str, Any]]:
    return claim["metadata"].get("ownerReferences") or ()


def _names(reference: Mapping[str, Any], obj: Object, version: str, kind: str) -> bool:
    return (reference["apiVersion"], reference["kind"], reference["name"]) == (version, kind, name(obj))


def _owned(claim: Object, owner: Object) -> bool:
    return any(reference["uid"] == uid(owner) for reference in _owners(claim))


def _stale(claim: Object, owner: Object, version: str, kind: str) -> bool:
    """Whether it is owned by an earlier object of the owner's name."""
    named = [reference for reference in _owners(claim) if _names(reference, owner, version, kind)]
    return bool(named) and named[0]["uid"] != uid(owner)

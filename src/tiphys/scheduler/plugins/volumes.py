"""Claims: those that are bound lead to the nodes of their volumes, those that wait get a volume with their node.

Upstream's VolumeBinding, and of its VolumeRestrictions what a claim for one pod alone means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.scheduler.plugins.node import matches_term
from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from tiphys.scheduler.storage import (
    NO_PROVISIONER,
    ONE_POD,
    Storage,
    Use,
    is_bound,
    key_of,
    selected_node,
    uses,
    waits_for_consumer,
)
from tiphys.scheduler.types import SILENT, Change, Plugin

Object = Mapping[str, Any]

CONFLICT = "node(s) had volume node affinity conflict"
NONE_TO_BIND = "node(s) didn't find available persistent volumes to bind"
NO_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
IN_USE = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"


@dataclass(frozen=True, slots=True)
class Claims:
    """A pod's claims: `refused` says why no node can come into question."""

    storage: Storage
    bound: tuple[Object, ...] = ()
    waiting: tuple[Object, ...] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written before the pod is bound: volumes for claims, and claims for which one is to be made."""

    bindings: tuple[tuple[Object, Object], ...] = ()
    """(claim, volume)"""
    provisions: tuple[Object, ...] = ()


class VolumeBinding(Plugin):
    name = "VolumeBinding"
    helped_by = Change.NODE | Change.STORAGE

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> Any:
        used = tuple(uses(pod.pod))
        return sort_out(pod, used, snapshot.storage) if used else SILENT

    def refuse(self, pod: PodInfo, state: Claims) -> str:
        return state.refused

    def filter(self, pod: PodInfo, node: NodeInfo, state: Claims) -> tuple[str, ...]:
        found = plan(node, state)
        return () if isinstance(found, Plan) else found


class VolumeRestrictions(Plugin):
    name = "VolumeRestrictions"
    helped_by = Change.NODE | Change.ROOM | Change.STORAGE

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> Any:
        alone = frozenset(use.key for use in uses(pod.pod) if _is_for_one_pod(snapshot.storage.claims.get(use.key)))
        if not alone:
            return SILENT
        return frozenset(
            node.name
            for other, node in snapshot.pods()
            if other.key != pod.key and any(use.key in alone for use in uses(other.pod))
        )

    def filter(self, pod: PodInfo, node: NodeInfo, state: frozenset[str]) -> tuple[str, ...]:
        """Where nobody uses the claim, too: it is used, wherever that is."""
        return (IN_USE,) if state else ()

    def resolvable(self, pod: PodInfo, node: NodeInfo, reasons: tuple[str, ...]) -> bool:
        return True


def sort_out(pod: PodInfo, used: Sequence[Use], storage: Storage) -> Claims:
    """The pod's claims by what is to be done about them."""
    bound: list[Object] = []
    waiting: list[Object] = []
    for use in used:
        claim = storage.claims.get(use.key)
        refused = _refusal(pod, use, claim)
        if refused or claim is None:
            return Claims(storage, refused=refused)
        if is_bound(claim):
            bound.append(claim)
        elif not claim["spec"].get("volumeName") and waits_for_consumer(storage.class_of(claim)):
            waiting.append(claim)
        else:
            return Claims(storage, refused=UNBOUND)
    return Claims(storage, tuple(bound), tuple(waiting))


def _refusal(pod: PodInfo, use: Use, claim: Object | None) -> str:
    if claim is None:
        if use.ephemeral:
            return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{use.name}"'
        return f'persistentvolumeclaim "{use.name}" not found'
    if (claim.get("status") or {}).get("phase") == "Lost":
        volume = claim["spec"].get("volumeName") or ""
        return f'persistentvolumeclaim "{use.name}" bound to non-existent persistentvolume "{volume}"'
    if claim["metadata"].get("deletionTimestamp"):
        return f'persistentvolumeclaim "{use.name}" is being deleted'
    owners = claim["metadata"].get("ownerReferences") or ()
    if use.ephemeral and not any(each.get("controller") and each["uid"] == pod.key for each in owners):
        where = pod.namespace
        return (
            f"PVC {where}/{use.name} was not created for pod {where}/{pod.pod['metadata']['name']} (pod is not owner)"
        )
    return ""


def plan(node: NodeInfo, claims: Claims) -> Plan | tuple[str, ...]:
    """What gives the pod its volumes on `node`, or why nothing does."""
    storage = claims.storage
    reasons = [_bound_elsewhere(claim, node, storage) for claim in claims.bound]
    bindings: list[tuple[Object, Object]] = []
    provisions: list[Object] = []
    for claim in claims.waiting:
        taken = {volume["metadata"]["name"] for _, volume in bindings}
        wanted = selected_node(claim)
        volume = None if wanted else _choose(claim, node, storage, taken)
        if volume is not None:
            bindings.append((claim, volume))
        elif wanted not in ("", node.name):
            reasons.append(CONFLICT)
        elif _can_provision(storage.class_of(claim), node):
            provisions.append(claim)
        else:
            reasons.append(NONE_TO_BIND)
    refused = tuple(dict.fromkeys(filter(None, reasons)))
    return refused or Plan(tuple(bindings), tuple(provisions))


def reaches(volume: Object, node: NodeInfo) -> bool:
    """Whether the volume can be used on the node."""
    required = ((volume["spec"].get("nodeAffinity") or {}).get("required")) or {}
    terms = required.get("nodeSelectorTerms") or ()
    return not terms or any(matches_term(term, node.node) for term in terms)


def _bound_elsewhere(claim: Object, node: NodeInfo, storage: Storage) -> str:
    volume = storage.volumes.get(str(claim["spec"]["volumeName"]))
    if volume is None:
        return NO_VOLUME
    return "" if reaches(volume, node) else CONFLICT


def _choose(claim: Object, node: NodeInfo, storage: Storage, taken: set[str]) -> Object | None:
    found = storage.candidates(claim)
    return next((each for each in found if each["metadata"]["name"] not in taken and reaches(each, node)), None)


def _can_provision(storage_class: Object | None, node: NodeInfo) -> bool:
    provisioner = (storage_class or {}).get("provisioner")
    if not storage_class or provisioner in (None, "", NO_PROVISIONER):
        return False
    topologies = storage_class.get("allowedTopologies") or ()
    return not topologies or any(_is_there(term, node) for term in topologies)


def _is_there(term: Object, node: NodeInfo) -> bool:
    labels = node.node["metadata"].get("labels") or {}
    return all(labels.get(each["key"]) in each["values"] for each in term.get("matchLabelExpressions") or ())


def _is_for_one_pod(claim: Object | None) -> bool:
    return claim is not None and ONE_POD in (claim["spec"].get("accessModes") or ())


def plan_for(pod: PodInfo, node: NodeInfo, storage: Storage) -> Plan:
    """The plan for the node that was decided on; empty if there is nothing to do. It promises its volumes."""
    used = tuple(uses(pod.pod))
    found = plan(node, sort_out(pod, used, storage)) if used else Plan()
    if not isinstance(found, Plan):
        return Plan()
    for claim, volume in found.bindings:
        storage.promise(volume["metadata"]["name"], key_of(claim))
    return found

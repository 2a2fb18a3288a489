"""What is left in a namespace that is being deleted, and what its conditions say about it. Pure.

Words, order and estimates are those of upstream's namespace controller: pods that are given time to end, and objects
with finalizers, are waited for; anything else that is still there after it was deleted is a failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.client.types import Object, Resource
from tiphys.controllers.objects import finalizers, spec, status
from tiphys.controllers.pods import terminal

FINALIZER = "kubernetes"
_FINALIZING = 15
"""Seconds that objects with finalizers are supposed to take."""

_FINE = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}


@dataclass(slots=True)
class Remains:
    """What was found after deleting: how many objects of which resource, with which finalizers, which failures."""

    counts: dict[Resource, int] = field(default_factory=dict)
    finalizers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    discovery: str = ""
    estimate: int = 0
    """Seconds until all is gone, supposedly."""
    waiting: bool = False
    """Pods are left: nothing else has been looked at yet."""

    @property
    def nothing(self) -> bool:
        """All is gone, as far as can be known."""
        return not (self.estimate or self.failures or self.discovery)

    def add(self, where: str, resource: Resource, left: Sequence[Object], estimate: int) -> None:
        """Take over what is left of one resource in namespace `where`; `estimate` is how long its objects may take."""
        if not left:
            return
        self.counts[resource] = len(left)
        held = Counter(each for obj in left for each in set(finalizers(obj)))
        if estimate or held:
            self.finalizers.update(held)
            self.estimate = max(self.estimate, estimate or _FINALIZING)
        else:
            gvr = f"{resource.group}/{resource.version}, Resource={resource.plural}"
            self.failures.append(f"unexpected items still remain in namespace: {where} for gvr: {gvr}")


def grace(pods: Iterable[Object], since: float) -> int:
    """The longest time, in seconds, that these pods have to end; 0 once it is over, `since` seconds ago it began."""
    given = (spec(each).get("terminationGracePeriodSeconds") or 0 for each in pods if not terminal(each))
    longest = max(given, default=0)
    return 0 if since >= longest else int(longest)


def problems(remains: Remains) -> dict[str, tuple[str, str]]:
    """Reason and message of each condition that is not fine. While pods are waited for, the rest is not told."""
    found = {}
    if remains.discovery:
        found["NamespaceDeletionDiscoveryFailure"] = ("DiscoveryFailed", remains.discovery)
    if remains.failures:
        listed = ", ".join(sorted(remains.failures))
        message = f"Failed to delete all resource types, {len(remains.failures)} remaining: {listed}"
        found["NamespaceDeletionContentFailure"] = ("ContentDeletionFailed", message)
    if remains.waiting:
        return found
    if remains.counts:
        parts = (f"{each.plural}.{each.group} has {count} resource instances" for each, count in remains.counts.items())
        message = f"Some resources are remaining: {', '.join(sorted(parts))}"
        found["NamespaceContentRemaining"] = ("SomeResourcesRemain", message)
    if remains.finalizers:
        parts = (f"{each} in {count} resource instances" for each, count in remains.finalizers.items())
        message = f"Some content in the namespace has finalizers remaining: {', '.join(sorted(parts))}"
        found["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", message)
    return found


def conditions_after(present: Sequence[Mapping[str, Any]], remains: Remains, now: float) -> list[Mapping[str, Any]]:
    """The conditions with what `remains` says; each of the five types is there, True or False."""
    wrong = problems(remains)
    result = list(present)
    for type, fine in _FINE.items():
        value = "True" if type in wrong else "False"
        reason, message = wrong.get(type, fine)
        position = next((number for number, each in enumerate(result) if each.get("type") == type), len(result))
        old = result[position] if position < len(result) else {}
        since = old.get("lastTransitionTime") if old.get("status") == value else None
        stamp = {"lastTransitionTime": since or rfc3339(now)}
        new = {"type": type, "status": value, **stamp, "reason": reason, "message": message}
        result[position : position + 1] = [new]
    return result


def new_status(held: Object, remains: Remains, now: float) -> dict[str, Any]:
    """The status that tells of `remains`."""
    conditions = conditions_after(status(held).get("conditions") or (), remains, now)
    return {**status(held), "phase": "Terminating", "conditions": conditions}


def finalized(held: Object) -> dict[str, Any]:
    """The namespace without our finalizer."""
    left = sorted({each for each in spec(held).get("finalizers") or () if each != FINALIZER})
    return {**held, "spec": {**spec(held), "finalizers": left}}

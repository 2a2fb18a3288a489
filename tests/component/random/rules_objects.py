"""Rules for objects of every kind: identity, generations, owners, namespaces, garbage collection."""

from __future__ import annotations

from collections.abc import Iterator

from component.random.state import Change, State, generation, observed, owners
from tiphys.client.types import Object
from tiphys.controllers.objects import controller_of, created, deleting, finalizers, name, namespace, uid

COLLECTOR = "generic-garbage-collector"
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


class Identity:
    """A uid lives once; what has a name keeps it while it lives."""

    def __init__(self) -> None:
        self._gone: set[str] = set()

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.old is None and uid(change.obj) in self._gone:
            yield f"{change.key} came back from the dead"
        if change.old is not None and change.new is not None and uid(change.old) != uid(change.new):
            yield f"{change.key} became another object without being deleted"
        if change.new is None:
            self._gone.add(uid(change.obj))


class Generations:
    """generation and observedGeneration only grow, and nobody has observed what is not there yet."""

    def check(self, change: Change, state: State) -> Iterator[str]:
        old, new = change.old, change.new
        if new is None:
            return
        if generation(new) < observed(new):
            yield f"{change.key} has observed {observed(new)} of {generation(new)} generations"
        if old is not None and generation(new) < generation(old):
            yield f"{change.key}'s generation falls"
        if old is not None and observed(new) < observed(old):
            yield f"{change.key}'s observed generation falls from {observed(old)} to {observed(new)}"


class Ownership:
    """One controller at a time: it is let go before another takes over."""

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.new is None:
            return
        references = change.new["metadata"].get("ownerReferences") or ()
        if sum(bool(each.get("controller")) for each in references) > 1:
            yield f"{change.key} has two controllers"
        before = controller_of(change.old) if change.old is not None else None
        after = controller_of(change.new)
        handed = change.plural == "persistentvolumeclaims"  # from a set to the pod that goes
        if before is not None and after is not None and before["uid"] != after["uid"] and not handed:
            yield f"{change.key} was taken from {before['name']} by {after['name']}"


class Namespaces:
    """Objects live in namespaces that exist, and a namespace goes when it is empty."""

    def check(self, change: Change, state: State) -> Iterator[str]:
        inside = namespace(change.obj)
        if inside and change.old is None and f"core/namespaces/{inside}" not in state.objects:
            yield f"{change.key} was created in a namespace that does not exist"
        if change.plural == "namespaces" and change.new is None:
            gone = name(change.obj)
            left = [key for key, obj in state.objects.items() if namespace(obj) == gone]
            if left:
                yield f"namespace {gone} went though it has {', '.join(left[:5])}"


class Collection:
    """Garbage collection deletes only what has lost all owners, waits in the foreground, and leaves orphans alone."""

    def __init__(self) -> None:
        self._orphaned: dict[str, float] = {}

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.doomed and change.controller == COLLECTOR:
            yield from self._collected(change, state)
        if change.new is None and deleting(change.obj):
            yield from self._let_go(change, state)

    def _collected(self, change: Change, state: State) -> Iterator[str]:
        assert change.old is not None
        if not owners(change.old):
            yield f"{change.key} was collected though it had no owner"
        for owner in owners(change.old):
            found = state.get(owner)
            if found is not None and _lives(found) and namespace(found) in ("", namespace(change.old)):
                yield f"{change.key} was collected though its owner {name(found)} lives"
            if state.known(created(change.old), self._orphaned.get(owner, 0.0)):
                yield f"{change.key} was collected though it should have been orphaned"

    def _let_go(self, change: Change, state: State) -> Iterator[str]:
        held = finalizers(change.obj)
        if ORPHAN in held:
            self._orphaned[uid(change.obj)] = change.at
        for dependent in state.dependents(uid(change.obj)):
            if not state.known(created(dependent), change.at) or namespace(dependent) != namespace(change.obj):
                continue
            if ORPHAN in held:
                yield f"{change.key} went without setting {name(dependent)} free"
            if FOREGROUND in held and change.controller == COLLECTOR and _blocks(dependent, uid(change.obj)):
                yield f"{change.key} went before its dependent {name(dependent)}"


def _lives(owner: Object) -> bool:
    """Whether its dependents have nothing to fear."""
    return not (deleting(owner) and FOREGROUND in finalizers(owner))


def _blocks(dependent: Object, owner: str) -> bool:
    references = dependent["metadata"].get("ownerReferences") or ()
    return any(each["uid"] == owner and each.get("blockOwnerDeletion") for each in references)


class Removal:
    """A pod that may still run goes only when its node says so, or when its node is no more."""

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.plural != "pods" or change.new is not None or not change.controller:
            return
        pod = change.obj
        spec, status = pod.get("spec") or {}, pod.get("status") or {}
        runs = spec.get("nodeName") and status.get("phase") not in ("Succeeded", "Failed")
        released = pod["metadata"].get("deletionGracePeriodSeconds") == 0
        if runs and not released and change.controller != "pod-garbage-collector":
            yield f"{change.key} was removed by {change.controller} though it may run"


RULES = (Identity, Generations, Ownership, Namespaces, Collection, Removal)

"""What is in the store, as its log tells: every object, who owns whom, and what happened to whom lately."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers.objects import controller_of, deleting, namespace, uid

UNKNOWING = 75.0
"""Seconds that a controller may not know yet of what others did: watches stall, status follows, calls are retried."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write, in the store's order."""

    revision: int
    key: str
    plural: str
    old: Object | None
    new: Object | None
    actor: str
    cause: str
    at: float
    """Seconds of virtual time."""

    @property
    def obj(self) -> Object:
        """The object after the change, or the last that it was."""
        found = self.new if self.new is not None else self.old
        assert found is not None
        return found

    @property
    def controller(self) -> str:
        """The account of the controller that did it; "" for others."""
        account = self.actor.removeprefix("system:serviceaccount:kube-system:")
        return account if account != self.actor else ""

    @property
    def doomed(self) -> bool:
        """Whether with this change deletion begins, or the object goes without more ado."""
        before = self.old is not None and deleting(self.old)
        return self.old is not None and not before and (self.new is None or deleting(self.new))


class State:
    """All objects at one revision."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self._keys: dict[str, str] = {}
        self._plurals: dict[str, dict[str, None]] = {}
        self._dependents: dict[str, dict[str, None]] = {}
        self._disturbed: dict[str, float] = {}
        self.blackout = float("-inf")
        """When a manager was cut off last."""

    def get(self, identity: str) -> Object | None:
        """The object of that uid."""
        key = self._keys.get(identity)
        return self.objects[key] if key is not None else None

    def all(self, plural: str, inside: str = "") -> Iterator[Object]:
        """Objects of a resource, of one namespace or of all."""
        for key in self._plurals.get(plural, ()):
            if not inside or namespace(self.objects[key]) == inside:
                yield self.objects[key]

    def dependents(self, identity: str) -> list[Object]:
        """What names the owner of that uid."""
        return [self.objects[key] for key in self._dependents.get(identity, ())]

    def controlled(self, identity: str, plural: str = "pods") -> list[Object]:
        """What of a resource that owner manages."""
        keys = [key for key in self._dependents.get(identity, ()) if plural_of(key) == plural]
        found = [self.objects[key] for key in keys]
        return [each for each in found if (controller_of(each) or {}).get("uid") == identity]

    def apply(self, change: Change) -> None:
        """Take over a change."""
        if change.old is not None:
            self._keys.pop(uid(change.old), None)
            for owner in owners(change.old):
                self._dependents.get(owner, {}).pop(change.key, None)
        if change.new is None:
            self.objects.pop(change.key, None)
            self._plurals.get(change.plural, {}).pop(change.key, None)
            return
        self.objects[change.key] = change.new
        self._keys[uid(change.new)] = change.key
        self._plurals.setdefault(change.plural, {})[change.key] = None
        for owner in owners(change.new):
            self._dependents.setdefault(owner, {})[change.key] = None

    def disturb(self, identity: str, at: float) -> None:
        """Somebody else than its controllers meddled with what the owner of that uid manages, or with itself."""
        while identity:
            self._disturbed[identity] = at
            owner = self.get(identity)
            identity = str((controller_of(owner) or {}).get("uid", "")) if owner is not None else ""

    def undisturbed(self, identity: str, now: float) -> bool:
        """Whether its controllers alone are to blame for what it is."""
        return self.known(self._disturbed.get(identity, float("-inf")), now)

    def known(self, at: float, now: float) -> bool:
        """Whether controllers should know by `now` what happened then."""
        return now - max(at, self.blackout) > UNKNOWING


def owners(obj: Object) -> list[str]:
    """uids of its owners."""
    return [str(each["uid"]) for each in obj["metadata"].get("ownerReferences") or ()]


def generation(obj: Object) -> int:
    return int(obj["metadata"].get("generation") or 0)


def observed(obj: Object) -> int:
    return int((obj.get("status") or {}).get("observedGeneration") or 0)


def plural_of(key: str) -> str:
    """ "pods" for core/pods/default/web."""
    return key.split("/", 2)[1]


def excerpt(obj: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """An object without what nobody reads in a report."""
    if obj is None:
        return None
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": meta}

"""Who owns whom: the graph that garbage collection walks. Pure.

A node is what metadata tells of one object. `OwnerGraph.update` and `remove` take over changes and return the uids
that are worth a look; `verdict` says what becomes of an object, given what is known of its owners.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tiphys.client.types import Object, Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner reference."""

    api_version: str
    kind: str
    name: str
    uid: str
    blocks: bool = False
    """blockOwnerDeletion: a foreground deletion of the owner waits for this dependent."""


@dataclass(frozen=True, slots=True)
class Node:
    """One object."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    owners: tuple[Owner, ...] = ()
    deleting: bool = False
    finalizers: frozenset[str] = frozenset()

    @property
    def foreground(self) -> bool:
        """Deletion waits for its dependents."""
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def orphaning(self) -> bool:
        """Deletion waits for its dependents to be set free."""
        return self.deleting and ORPHAN in self.finalizers


def owners_of(obj: Object) -> tuple[Owner, ...]:
    references = obj["metadata"].get("ownerReferences") or ()
    return tuple(
        Owner(each["apiVersion"], each["kind"], each["name"], each["uid"], bool(each.get("blockOwnerDeletion")))
        for each in references
    )


def node_of(resource: Resource, obj: Object) -> Node:
    meta = obj["metadata"]
    return Node(
        resource,
        meta.get("namespace") or "",
        meta["name"],
        meta["uid"],
        owners_of(obj),
        bool(meta.get("deletionTimestamp")),
        frozenset(meta.get("finalizers") or ()),
    )


def stripped(obj: Object) -> dict[str, Any]:
    """All of an object that garbage collection needs: what its informers keep."""
    kept = ("name", "namespace", "uid", "resourceVersion", "ownerReferences", "deletionTimestamp", "finalizers")
    meta = obj["metadata"]
    return {"metadata": {key: meta[key] for key in kept if key in meta}}


@dataclass(slots=True)
class Work:
    """uids to examine (do they have an owner left?) and to orphan (set their dependents free)."""

    examine: set[str] = field(default_factory=set)
    orphan: set[str] = field(default_factory=set)


class OwnerGraph:
    """All objects by uid, and dependents by the uid of their owner, whether that is known or not."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._dependents: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, uid: str) -> Node | None:
        return self._nodes.get(uid)

    def dependents(self, uid: str) -> list[Node]:
        return [self._nodes[each] for each in self._dependents.get(uid, ()) if each in self._nodes]

    def blocking(self, uid: str) -> list[Node]:
        """Dependents that a foreground deletion of `uid` waits for."""
        return [each for each in self.dependents(uid) if any(o.uid == uid and o.blocks for o in each.owners)]

    def update(self, node: Node) -> Work:
        """Take over an object as it is now."""
        old = self._nodes.get(node.uid)
        self._nodes[node.uid] = node
        self._link(old, node)
        work = Work()
        if node.owners and (old is None or old.owners != node.owners):
            work.examine.update(self._suspects(node))
        if node.orphaning and not (old is not None and old.orphaning):
            work.orphan.add(node.uid)
        if node.foreground:
            if old is None or not old.foreground:
                work.examine.update(each.uid for each in self.dependents(node.uid))
            work.examine.add(node.uid)
        if old is not None:
            work.examine |= self._released(old, node)
        return work

    def remove(self, uid: str) -> Work:
        """Take over that an object is gone."""
        node = self._nodes.pop(uid, None)
        work = Work(examine={each.uid for each in self.dependents(uid)})
        if node is not None:
            self._link(node, None)
            work.examine |= self._waiting(node.owners)
        return work

    def _link(self, old: Node | None, new: Node | None) -> None:
        before = {each.uid for each in old.owners} if old is not None else set()
        after = {each.uid for each in new.owners} if new is not None else set()
        mine = (new or old).uid  # type: ignore[union-attr]  # one of them is given
        for owner in before - after:
            dependents = self._dependents.get(owner, set())
            dependents.discard(mine)
            if not dependents:
                self._dependents.pop(owner, None)
        for owner in after - before:
            self._dependents.setdefault(owner, set()).add(mine)

    def _suspects(self, node: Node) -> Iterable[str]:
        """The object itself, if one of its owners is unknown here, elsewhere, or going."""
        for owner in node.owners:
            known = self._nodes.get(owner.uid)
            if known is None or known.foreground or not reachable(node, known):
                return (node.uid,)
        return ()

    def _released(self, old: Node, new: Node) -> set[str]:
        """Owners that waited for this dependent and need not any more."""
        still = {owner.uid for owner in new.owners if owner.blocks}
        return self._waiting([owner for owner in old.owners if owner.uid not in still])

    def _waiting(self, owners: Iterable[Owner]) -> set[str]:
        known = (self._nodes.get(owner.uid) for owner in owners)
        return {node.uid for node in known if node is not None and node.foreground}


def reachable(dependent: Node, owner: Node) -> bool:
    """An owner is cluster-scoped or in the dependent's own namespace; other references are void."""
    return not owner.namespace or owner.namespace == dependent.namespace


class OwnerState(Enum):
    """What is known of an owner."""

    SOLID = "exists"
    DANGLING = "does not exist"
    WAITING = "is being deleted and waits for its dependents"


class Action(Enum):
    """What becomes of an object."""

    KEEP = "nothing to do"
    DROP_REFERENCES = "it has an owner, but references to others are void"
    DELETE_FOREGROUND = "an owner waits for it, and it has dependents itself"
    DELETE = "no owner is left"


@dataclass(frozen=True, slots=True)
class Verdict:
    action: Action
    drop: frozenset[str] = frozenset()
    """Owner uids whose references go, for DROP_REFERENCES."""
    propagation: str = ""
    """For deletions."""


def verdict(
    owners: Sequence[Owner], states: Mapping[str, OwnerState], finalizers: Iterable[str], has_dependents: bool
) -> Verdict:
    """What becomes of an object with these owners in these states (by uid)."""
    void = frozenset(owner.uid for owner in owners if states[owner.uid] is not OwnerState.SOLID)
    if not owners or not void:
        return Verdict(Action.KEEP)
    if len(void) < len({owner.uid for owner in owners}):
        return Verdict(Action.DROP_REFERENCES, drop=void)
    if has_dependents and any(states[owner.uid] is OwnerState.WAITING for owner in owners):
        return Verdict(Action.DELETE_FOREGROUND, propagation="Foreground")
    held = set(finalizers)
    propagation = "Orphan" if ORPHAN in held else "Foreground" if FOREGROUND in held else "Background"
    return Verdict(Action.DELETE, propagation=propagation)

"""Who owns whom: the graph that garbage collection walks. Pure.

A node is what metadata tells of one object. `OwnerGraph.update` and `remove` take over changes and return the uids
that are worth a look; `verdict` says what becomes of an object, given what is known of its owners.

Owners are known by their uid, but a reference also has coordinates: version, kind, name, and the namespace of who
refers. A reference whose coordinates are not those of the object with that uid has to be looked up; an owner that has
not been seen is looked up once, for all its dependents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tiphys.client.types import Object, Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_KEPT = ("name", "namespace", "uid", "resourceVersion", "ownerReferences", "deletionTimestamp", "finalizers")
_DECISIVE = ("ownerReferences", "deletionTimestamp", "finalizers", "uid")


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
    kind: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.resource.group}/{self.resource.version}" if self.resource.group else self.resource.version

    @property
    def foreground(self) -> bool:
        """Deletion waits for its dependents."""
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def orphaning(self) -> bool:
        """Deletion waits for its dependents to be set free."""
        return self.deleting and ORPHAN in self.finalizers


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Where an owner should be, by a reference; `namespace` is that of who refers, or "" for a kind that has none."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        where = f"namespace: {self.namespace}, name: {self.name}, uid: {self.uid}"
        return f"[{self.api_version}/{self.kind}, {where}]"


def coordinates(owner: Owner, namespace: str) -> Coordinates:
    return Coordinates(owner.api_version, owner.kind, namespace, owner.name, owner.uid)


def own_coordinates(node: Node) -> Coordinates:
    """Those of an object that has been seen."""
    return Coordinates(node.api_version, node.kind, node.namespace, node.name, node.uid)


def owners_of(obj: Object) -> tuple[Owner, ...]:
    references = obj["metadata"].get("ownerReferences") or ()
    return tuple(
        Owner(
            each.get("apiVersion", ""),
            each.get("kind", ""),
            each.get("name", ""),
            each.get("uid", ""),
            bool(each.get("blockOwnerDeletion")),
        )
        for each in references
    )


def node_of(resource: Resource, obj: Object, kind: str = "") -> Node:
    meta = obj["metadata"]
    return Node(
        resource,
        meta.get("namespace") or "",
        meta["name"],
        meta["uid"],
        owners_of(obj),
        bool(meta.get("deletionTimestamp")),
        frozenset(meta.get("finalizers") or ()),
        kind,
    )


def stripped(obj: Object) -> dict[str, Any]:
    """All of an object that garbage collection needs: what its informers keep."""
    meta = obj["metadata"]
    return {"metadata": {key: meta[key] for key in _KEPT if key in meta}}


def matters(old: Object, new: Object) -> bool:
    """Whether a change of an object can be one of the graph; most are not."""
    before, after = old["metadata"], new["metadata"]
    return any(before.get(key) != after.get(key) for key in _DECISIVE)


@dataclass(slots=True)
class Work:
    """uids to examine (do they have an owner left? are they there at all?) and to orphan (set their dependents free),
    and references into namespaces where the owner is not."""

    examine: set[str] = field(default_factory=set)
    orphan: set[str] = field(default_factory=set)
    misplaced: list[tuple[Node, Owner]] = field(default_factory=list)


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

    def has_dependents(self, uid: str) -> bool:
        return uid in self._dependents

    def blocking(self, uid: str) -> list[Node]:
        """Dependents that a foreground deletion of `uid` waits for."""
        return [each for each in self.dependents(uid) if any(o.uid == uid and o.blocks for o in each.owners)]

    def claims(self, uid: str) -> dict[Coordinates, list[Node]]:
        """Where `uid` should be, by those who refer to it."""
        found: dict[Coordinates, list[Node]] = {}
        for each in self.dependents(uid):
            for owner in each.owners:
                if owner.uid == uid:
                    found.setdefault(coordinates(owner, each.namespace), []).append(each)
        return found

    def update(self, node: Node) -> Work:
        """Take over an object as it is now."""
        old = self._nodes.get(node.uid)
        self._nodes[node.uid] = node
        self._link(old, node)
        work = Work()
        if old is None:
            self._seen(node, work)
        self._judge_references(old, node, work)
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

    def _seen(self, node: Node, work: Work) -> None:
        """An owner has come into sight: whoever refers to it by other coordinates is suspect."""
        for each in self.dependents(node.uid):
            for owner in each.owners:
                if owner.uid == node.uid and not refers(each, owner, node):
                    work.examine.add(each.uid)
                    if not reachable(each, node):
                        work.misplaced.append((each, owner))

    def _judge_references(self, old: Node | None, node: Node, work: Work) -> None:
        """An owner that is unknown is to be looked up, as is who refers to one that is elsewhere or going."""
        before = {each.uid for each in old.owners} if old is not None else set()
        for owner in node.owners:
            if old is not None and owner in old.owners:
                continue
            known = self._nodes.get(owner.uid)
            if known is None:
                work.examine.add(owner.uid)
            elif known.foreground or not refers(node, owner, known):
                work.examine.add(node.uid)
                if owner.uid not in before and not reachable(node, known):
                    work.misplaced.append((node, owner))

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


def refers(dependent: Node, reference: Owner, owner: Node) -> bool:
    """Whether the reference is to that object, not only to its uid."""
    exact = (reference.name, reference.kind, reference.api_version) == (owner.name, owner.kind, owner.api_version)
    return exact and reachable(dependent, owner)


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
    owners: Sequence[Owner], states: Mapping[Owner, OwnerState], finalizers: Iterable[str], has_dependents: bool
) -> Verdict:
    """What becomes of an object with these owners in these states."""
    void = frozenset(owner.uid for owner in owners if states[owner] is not OwnerState.SOLID)
    if not owners or not void:
        return Verdict(Action.KEEP)
    if any(states[owner] is OwnerState.SOLID for owner in owners):
        return Verdict(Action.DROP_REFERENCES, drop=void)
    if has_dependents and any(states[owner] is OwnerState.WAITING for owner in owners):
        return Verdict(Action.DELETE_FOREGROUND, propagation="Foreground")
    held = set(finalizers)
    propagation = "Orphan" if ORPHAN in held else "Foreground" if FOREGROUND in held else "Background"
    return Verdict(Action.DELETE, propagation=propagation)

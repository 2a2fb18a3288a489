"""What should be attached, what is, and what is being done about it: the attach/detach controller's memory.

Nothing here does I/O or reads a clock. The shell puts in what informers show and how operations end; `attach_rules`
decides from it. As in upstream, an attachment is confirmed (its driver said so) or uncertain: something was begun and
may or may not have been done, so that it has to be undone, or tried again, before the volume is free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tiphys.client.backoff import Backoff
from tiphys.client.types import Object
from tiphys.controllers.attach_volumes import Volume

ATTACH, DETACH = "attach", "detach"
_RETRY = Backoff(base=0.5, limit=122.0)


@dataclass(slots=True)
class Wanted:
    """A volume that pods on one node need."""

    volume: Volume
    pods: dict[str, Object] = field(default_factory=dict)
    contested: bool = False
    """Whether the pods were told that another node has it."""


@dataclass(slots=True)
class Attachment:
    """A volume that is, or may be, attached to one node."""

    volume: Volume
    confirmed: bool
    unwanted_since: float | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """What was begun last, under one lock; a failed one keeps the lock's next try of the same kind waiting."""

    kind: str
    node: str
    volume: Volume
    started: float
    pending: bool = True
    failures: int = 0
    again: float = 0.0

    def blocks(self, kind: str, now: float) -> float | None:
        """Seconds until `kind` may begin: 0 for now, None for when this has ended."""
        if self.pending:
            return None
        return max(0.0, self.again - now) if kind == self.kind else 0.0


@dataclass(slots=True)
class World:
    """See the module's docstring. Volumes go by their unique names, pods by their keys."""

    wanted: dict[str, dict[str, Wanted]] = field(default_factory=dict)
    attached: dict[str, dict[str, Attachment]] = field(default_factory=dict)
    operations: dict[tuple[str, str], Operation] = field(default_factory=dict)
    in_use: dict[str, set[str]] = field(default_factory=dict)
    managed: set[str] = field(default_factory=set)
    reports: dict[str, set[str]] = field(default_factory=dict)
    """What each node's status is to say, since something was first attached to it."""
    outdated: set[str] = field(default_factory=set)
    """Nodes whose status is to be compared with that."""
    _pods: dict[str, tuple[str, str, frozenset[str]]] = field(default_factory=dict)

    def want(self, key: str, pod: Object, node: str, volumes: Mapping[str, Volume], doubtful: bool) -> set[str]:
        """`pod` needs `volumes` on `node`; if that list is doubtful, also what it needed before. Returns the unique
        names of volumes for which something changed."""
        identity = str(pod["metadata"].get("uid") or "")
        before = self._pods.get(key)
        if before is not None and before[:2] != (identity, node):
            self.release(key)
            before = None
        kept = before[2] if before else frozenset()
        names = frozenset(volumes) | (kept if doubtful else frozenset())
        for unique in kept - names:
            self._drop(key, node, unique)
        for unique, volume in volumes.items():
            place = self.wanted.setdefault(unique, {}).setdefault(node, Wanted(volume))
            place.pods[key] = pod
        if names:
            self._pods[key] = (identity, node, names)
        else:
            self._pods.pop(key, None)
        return set(names ^ kept)

    def release(self, key: str) -> frozenset[str]:
        """The pod needs nothing any more; returns what it needed."""
        _, node, names = self._pods.pop(key, ("", "", frozenset()))
        for unique in names:
            self._drop(key, node, unique)
        return names

    def _drop(self, key: str, node: str, unique: str) -> None:
        places = self.wanted[unique]
        places[node].pods.pop(key, None)
        if not places[node].pods:
            del places[node]
        if not places:
            del self.wanted[unique]

    def has_work(self, node: str) -> bool:
        return any(node in places for places in self.wanted.values())

    def volumes_at(self, node: str) -> list[str]:
        """Unique names of what is or may be attached to `node`."""
        return [unique for unique, places in self.attached.items() if node in places]

    def mark(self, volume: Volume, node: str, *, confirmed: bool) -> None:
        """`volume` is attached to `node`, or may be."""
        places = self.attached.setdefault(volume.unique, {})
        if node in places:
            places[node].volume, places[node].confirmed = volume, confirmed
        else:
            places[node] = Attachment(volume, confirmed)
            self.in_use.setdefault(node, set()).add(volume.unique)  # until its kubelet says otherwise
        if confirmed:
            self.report(node, volume.unique)

    def unmark(self, unique: str, node: str) -> None:
        """It is not attached to `node` any more."""
        places = self.attached.get(unique, {})
        places.pop(node, None)
        if not places:
            self.attached.pop(unique, None)
        self.withhold(node, unique)

    def report(self, node: str, unique: str) -> None:
        """The node's status shall say that it may use the volume."""
        reported = self.reports.setdefault(node, set())
        if unique not in reported:
            reported.add(unique)
            self.outdated.add(node)

    def withhold(self, node: str, unique: str) -> None:
        """The node's status shall not say so any more."""
        if unique in self.reports.get(node, ()):
            self.reports[node].discard(unique)
            self.outdated.add(node)

    def uses(self, node: str, names: Iterable[str]) -> None:
        """What the kubelet says it has mounted."""
        self.in_use[node] = set(names)

    def operation(self, volume: Volume, node: str) -> Operation | None:
        return self.operations.get(_lock(volume, node))

    def begin(self, kind: str, volume: Volume, node: str, now: float) -> Operation:
        before = self.operations.get(_lock(volume, node))
        failures = before.failures if before is not None and before.kind == kind else 0
        made = Operation(kind, node, volume, now, failures=failures)
        self.operations[_lock(volume, node)] = made
        return made

    def succeed(self, operation: Operation) -> None:
        self.operations.pop(_lock(operation.volume, operation.node), None)

    def fail(self, operation: Operation, now: float) -> None:
        again = now + _RETRY.delay(operation.failures)
        self.operations[_lock(operation.volume, operation.node)] = Operation(
            operation.kind, operation.node, operation.volume, operation.started, False, operation.failures + 1, again
        )

    def pending(self, unique: str) -> list[Operation]:
        """Operations on a volume that have not ended."""
        return [each for (name, _), each in self.operations.items() if name == unique and each.pending]

    def forget_node(self, node: str) -> None:
        """Nothing is known of a node that is gone and has nothing attached."""
        for table in (self.in_use, self.reports):
            table.pop(node, None)
        self.outdated.discard(node)


def _lock(volume: Volume, node: str) -> tuple[str, str]:
    """One operation at a time for a volume; if it may be shared, for each node."""
    return volume.unique, node if volume.shared else ""

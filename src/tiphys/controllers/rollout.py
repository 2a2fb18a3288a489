"""How many replicas each ReplicaSet of a Deployment should have: rolling update, recreate, proportional scaling.

Pure. A `Rollout` starts from what is there and works on copies of the ReplicaSets; `changed` tells what has to be
written in the end. The rules are those of the Deployment documentation (maxSurge, maxUnavailable, rollover).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers.objects import (
    annotations_of,
    created,
    int_of,
    name,
    scaled,
    semantically_equal,
    spec,
    status,
    uid,
    without_hash,
)

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"

ROLLBACK = "deprecated.deployment.rollback.to"
"""What spec.rollbackTo of apps/v1beta1 is in apps/v1."""

NOT_COPIED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    ROLLBACK,
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAXIMUM,
}
_MAX_HISTORY = 2000
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")


def replicas(obj: Object) -> int:
    return int_of(spec(obj).get("replicas"), 1)


def total(sets: Sequence[Object]) -> int:
    """Wanted replicas of all."""
    return sum(map(replicas, sets))


def counted(sets: Sequence[Object], field: str) -> int:
    """The sum of a number in their status."""
    return sum(int_of(status(each).get(field)) for each in sets)


def number_in(replica_set: Object, annotation: str) -> int | None:
    """The number that an annotation says; None if it says none: anybody may write there."""
    text = annotations_of(replica_set).get(annotation, "")
    number = int(text) if _WHOLE.fullmatch(text) else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def revision(replica_set: Object) -> int:
    """Its revision; 0 for none or one that is no number."""
    return number_in(replica_set, REVISION) or 0


def rolling(deployment: Object) -> bool:
    return bool((spec(deployment).get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def _bounds(deployment: Object) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as numbers of pods; never both zero."""
    if not rolling(deployment):
        return 0, 0
    limits = (spec(deployment).get("strategy") or {}).get("rollingUpdate") or {}
    wanted = replicas(deployment)
    surge = scaled(limits.get("maxSurge"), wanted, round_up=True)
    unavailable = scaled(limits.get("maxUnavailable"), wanted, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, unavailable


def max_surge(deployment: Object) -> int:
    return _bounds(deployment)[0]


def max_unavailable(deployment: Object) -> int:
    return min(_bounds(deployment)[1], replicas(deployment))


def oldest_first(sets: Sequence[Object]) -> list[Object]:
    return sorted(sets, key=lambda each: (created(each), name(each)))


def split(deployment: Object, sets: Sequence[Object]) -> tuple[Object | None, list[Object]]:
    """(the ReplicaSet with the Deployment's template, the others); of several equal ones the oldest is the new one."""
    template = without_hash(spec(deployment)["template"])
    ordered = oldest_first(sets)
    new = next((each for each in ordered if same_template(each, template)), None)
    return new, [each for each in ordered if new is None or uid(each) != uid(new)]


def same_template(replica_set: Object, template: Mapping[str, Any]) -> bool:
    """Whether it runs `template` (given without the hash label)."""
    return semantically_equal(without_hash(spec(replica_set)["template"]), template)


def annotated(obj: Object, extra: Mapping[str, str]) -> Object:
    """`obj` with more annotations; the same object if it has them already."""
    present = annotations_of(obj)
    if extra.items() <= present.items():
        return obj
    return {**obj, "metadata": {**obj["metadata"], "annotations": {**present, **extra}}}


def revision_annotations(deployment: Object, replica_set: Object, old: Sequence[Object]) -> Mapping[str, str]:
    """What the new ReplicaSet's annotations should include: the Deployment's own, its revision and its history.

    Nothing for one whose revision somebody made unreadable: it is not ours to count on from there."""
    if annotations_of(replica_set).get(REVISION) and number_in(replica_set, REVISION) is None:
        return {}
    wanted = {key: value for key, value in annotations_of(deployment).items() if key not in NOT_COPIED}
    before, now = revision(replica_set), max(map(revision, old), default=0) + 1
    if before < now:
        wanted[REVISION] = str(now)
        if REVISION in annotations_of(replica_set):
            wanted[REVISION_HISTORY] = _history(annotations_of(replica_set).get(REVISION_HISTORY, ""), str(before))
    return wanted


def _history(earlier: str, latest: str) -> str:
    numbers = [*filter(None, earlier.split(",")), latest]
    while len(",".join(numbers)) > _MAX_HISTORY:
        numbers.pop(0)
    return ",".join(numbers)


class Rollout:
    """The ReplicaSets of one Deployment on their way to the wanted numbers."""

    def __init__(self, deployment: Object, new: Object | None, old: Sequence[Object]) -> None:
        self.deployment = deployment
        self._new = uid(new) if new is not None else None
        self._sets = {uid(each): each for each in ([new] if new is not None else []) + list(old)}
        self._before = dict(self._sets)
        self.events: dict[str, list[str]] = {}
        """What to tell once a ReplicaSet is written, by its uid."""

    @property
    def new(self) -> Object | None:
        return self._sets[self._new] if self._new is not None else None

    @property
    def old(self) -> list[Object]:
        return [each for key, each in self._sets.items() if key != self._new]

    @property
    def all(self) -> list[Object]:
        return list(self._sets.values())

    @property
    def changed(self) -> list[Object]:
        """ReplicaSets that have to be written."""
        return [each for key, each in self._sets.items() if each is not self._before[key]]

    def add_new(self, replica_set: Object) -> None:
        """Take up the new ReplicaSet, which is not created yet and hence has no uid."""
        self._new = uid(replica_set)
        self._sets[self._new] = self._before[self._new] = replica_set

    def replace(self, replica_set: Object) -> None:
        self._sets[uid(replica_set)] = replica_set

    def scale(self, replica_set: Object, wanted: int, *, force: bool = False) -> bool:
        """Set its replicas, and note the Deployment's on it; with `force` also when only the notes differ."""
        replica_set = self._sets[uid(replica_set)]
        have = replicas(replica_set)
        if have == wanted and not force:
            return False
        desired = replicas(self.deployment)
        notes = {DESIRED: str(desired), MAXIMUM: str(desired + max_surge(self.deployment))}
        result = annotated(replica_set, notes)
        if have != wanted:
            result = {**result, "spec": {**spec(result), "replicas": wanted}}
            direction = "up" if have < wanted else "down"
            message = f"Scaled {direction} replica set {name(result)} from {have} to {wanted}"
            self.events.setdefault(uid(result), []).append(message)
        self.replace(result)
        return have != wanted

    def active(self, sets: Sequence[Object]) -> list[Object]:
        return [each for each in sets if replicas(each) > 0]

    def is_scaling_event(self) -> bool:
        """Whether the Deployment's replicas changed since its ReplicaSets were last scaled."""
        noted = (number_in(each, DESIRED) for each in self.active(self.all))
        return any(note is not None and 0 <= note != replicas(self.deployment) for note in noted)

    def resize(self) -> None:
        """Spread a change of the Deployment's replicas over its ReplicaSets."""
        lone = self._active_or_latest()
        if lone is not None:
            # One that somebody else has scaled has the size, but must learn why, or scaling would never end.
            self.scale(lone, replicas(self.deployment), force=number_in(lone, DESIRED) != replicas(self.deployment))
        elif self._saturated():
            for each in self.active(self.old):
                self.scale(each, 0)
        elif rolling(self.deployment):
            self._spread()

    def _active_or_latest(self) -> Object | None:
        active = self.active(self.all)
        if len(active) == 1:
            return active[0]
        if active or not self._sets:
            return None
        return self.new or oldest_first(self.old)[-1]

    def _saturated(self) -> bool:
        new, wanted = self.new, replicas(self.deployment)
        if new is None or number_in(new, DESIRED) != wanted:
            return False
        return replicas(new) == wanted and int_of(status(new).get("availableReplicas")) == wanted

    def _spread(self) -> None:
        """In proportion to their sizes; what rounding leaves over goes to the largest."""
        wanted = replicas(self.deployment)
        allowed = wanted + max_surge(self.deployment) if wanted > 0 else 0
        active = oldest_first(self.active(self.all))
        to_add = allowed - total(active)
        if to_add > 0:
            active.reverse()
        active.sort(key=lambda each: -replicas(each))
        sizes, added = [], 0
        for each in active:
            share = self._share(each, to_add, added)
            sizes.append(replicas(each) + share)
            added += share
        if sizes:
            sizes[0] = max(0, sizes[0] + to_add - added)
        for each, size in zip(active, sizes, strict=True):
            self.scale(each, size, force=True)

    def _share(self, replica_set: Object, to_add: int, added: int) -> int:
        if to_add in (0, added):
            return 0
        fraction, left = self._fraction(replica_set), to_add - added
        return min(fraction, left) if to_add > 0 else max(fraction, left)

    def _fraction(self, replica_set: Object) -> int:
        size = replicas(replica_set)
        if replicas(self.deployment) == 0:
            return -size
        before = max(0, number_in(replica_set, MAXIMUM) or 0) or int_of(status(self.deployment).get("replicas"))
        if before == 0:
            return 0
        after = size * (replicas(self.deployment) + max_surge(self.deployment)) / before
        return math.floor(after + 0.5) - size

    def size_of_new(self, have: int) -> int:
        """Replicas for the new ReplicaSet, which has `have`, within the surge."""
        wanted = replicas(self.deployment)
        if not rolling(self.deployment):
            return wanted
        room = wanted + max_surge(self.deployment) - total(self.all)
        return have if room <= 0 else have + min(room, wanted - have)

    def roll(self) -> None:
        """One step of a rolling update: the new one up if possible, else old ones down if possible."""
        new = self.new
        if new is not None and not self._scale_new(new):
            self._scale_old(new)

    def _scale_new(self, new: Object) -> bool:
        have, wanted = replicas(new), replicas(self.deployment)
        return self.scale(new, wanted if have >= wanted else self.size_of_new(have))

    def _scale_old(self, new: Object) -> None:
        """Unhealthy pods of old revisions go first: they add nothing to availability."""
        old = oldest_first(self.active(self.old))
        least = replicas(self.deployment) - max_unavailable(self.deployment)
        pending = replicas(new) - int_of(status(new).get("availableReplicas"))
        room = total(self.all) - least - pending
        if not old or room <= 0 or not self._drop_unhealthy(old, room):
            return
        surplus = counted(self.all, "availableReplicas") - least
        for each in old:
            size = replicas(self._sets[uid(each)])
            step = min(size, surplus)
            if step > 0:
                self.scale(each, size - step)
                surplus -= step

    def _drop_unhealthy(self, old: Sequence[Object], room: int) -> bool:
        """False if a status turns out to be of before its ReplicaSet was scaled down: it counts pods that go."""
        for each in old:
            if room <= 0:
                break
            step = min(room, replicas(each) - int_of(status(each).get("availableReplicas")))
            if step < 0:
                return False
            if step:
                self.scale(each, replicas(each) - step)
                room -= step
        return True

    def stop_old(self) -> bool:
        """Scale everything old to nothing; whether there was something to scale."""
        scaled_down = [self.scale(each, 0) for each in self.active(self.old)]
        return any(scaled_down)

    def removable(self) -> list[Object]:
        """Old ReplicaSets beyond the history limit that have nothing running, oldest revision first."""
        limit = spec(self.deployment).get("revisionHistoryLimit")
        if limit is None or limit == 2**31 - 1:
            return []
        alive = [each for each in self.old if not each["metadata"].get("deletionTimestamp")]
        alive.sort(key=lambda each: (revision(each), created(each)))
        return [each for each in alive[: max(0, len(alive) - int(limit))] if _idle(each)]


def _idle(replica_set: Object) -> bool:
    seen = int_of(status(replica_set).get("observedGeneration"))
    current = int_of(replica_set["metadata"].get("generation")) <= seen
    return current and replicas(replica_set) == 0 and not int_of(status(replica_set).get("replicas"))

"""What a Deployment's status says: counts, Available, Progressing, ReplicaFailure. Pure.

Each function takes a base status (the stored one, with conditions changed on the way) and returns the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.client.types import Object
from tiphys.controllers.objects import (
    condition,
    int_of,
    moment,
    name,
    new_condition,
    spec,
    status,
    with_condition,
    without_condition,
)
from tiphys.controllers.rollout import Rollout, counted, max_unavailable, replicas, total

CREATE_ERROR = "ReplicaSetCreateError"
TIMED_OUT = "ProgressDeadlineExceeded"
AVAILABLE = "NewReplicaSetAvailable"

Status = Mapping[str, Any]


def _has_deadline(deployment: Object) -> bool:
    deadline = spec(deployment).get("progressDeadlineSeconds")
    return deadline is not None and deadline != 2**31 - 1


def _condition(type: str, value: str, reason: str, message: str, now: float) -> dict[str, Any]:
    return new_condition(type, value, reason, message, now, lastUpdateTime=rfc3339(now))


def _with(base: Status, new: Mapping[str, Any]) -> Status:
    return {**base, "conditions": with_condition(base.get("conditions") or (), new)}


def _progress(base: Status, value: str, reason: str, message: str, now: float) -> Status:
    return _with(base, _condition("Progressing", value, reason, message, now))


def with_paused_condition(deployment: Object, now: float) -> Status:
    """The stored status, with pausing or resuming noted, so that a pause never counts as a lack of progress."""
    base = status(deployment)
    current = condition(base, "Progressing") or {}
    if not _has_deadline(deployment) or current.get("reason") == TIMED_OUT:
        return base
    noted = current.get("reason") == "DeploymentPaused"
    if spec(deployment).get("paused") and not noted:
        return _progress(base, "Unknown", "DeploymentPaused", "Deployment is paused", now)
    if noted and not spec(deployment).get("paused"):
        return _progress(base, "Unknown", "DeploymentResumed", "Deployment is resumed", now)
    return base


def with_revision_condition(rollout: Rollout, base: Status, created: Object | None, now: float) -> Status:
    """Notes that the new ReplicaSet was created, or found by a Deployment that has no condition yet."""
    if not _has_deadline(rollout.deployment) or rollout.new is None:
        return base
    if created is not None:
        message = f'Created new replica set "{name(created)}"'
        return _progress(base, "True", "NewReplicaSetCreated", message, now)
    if condition(base, "Progressing") is None:
        message = f'Found new replica set "{name(rollout.new)}"'
        return _progress(base, "True", "FoundNewReplicaSet", message, now)
    return base


def with_create_error(deployment: Object, message: str, now: float) -> Status:
    """The stored status with the failure to create the new ReplicaSet."""
    if not _has_deadline(deployment):
        return status(deployment)
    return _progress(status(deployment), "False", CREATE_ERROR, message, now)


def plain(rollout: Rollout, base: Status, now: float) -> Status:
    """Counts and Available."""
    deployment, sets = rollout.deployment, rollout.all
    available = counted(sets, "availableReplicas")
    counts = {
        "replicas": counted(sets, "replicas"),
        "updatedReplicas": counted([rollout.new], "replicas") if rollout.new is not None else 0,
        "readyReplicas": counted(sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total(sets) - available),
    }
    new: dict[str, Any] = {"observedGeneration": int_of(deployment["metadata"].get("generation"))}
    new |= {key: value for key, value in counts.items() if value}
    terminating = _terminating(sets)
    if terminating is not None:
        new["terminatingReplicas"] = terminating
    if base.get("collisionCount") is not None:
        new["collisionCount"] = base["collisionCount"]
    new["conditions"] = list(base.get("conditions") or ())
    if available >= replicas(deployment) - max_unavailable(deployment):
        reason, message = "MinimumReplicasAvailable", "Deployment has minimum availability."
        return _with(new, _condition("Available", "True", reason, message, now))
    reason, message = "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
    return _with(new, _condition("Available", "False", reason, message, now))


def _terminating(sets: Sequence[Object]) -> int | None:
    """The sum, or None while a ReplicaSet that was looked at does not tell."""
    known = [status(each).get("terminatingReplicas") for each in sets if status(each).get("observedGeneration")]
    return None if None in known else sum(map(int_of, known))


def progressing(rollout: Rollout, base: Status, now: float) -> Status:
    """Counts, Available, and the judgement of how the rollout goes."""
    deployment = rollout.deployment
    new = plain(rollout, base, now)
    current = condition(base, "Progressing")
    done = current is not None and current.get("reason") == AVAILABLE
    settled = int_of(new.get("replicas")) == int_of(new.get("updatedReplicas")) and done
    if not _has_deadline(deployment):
        new = {**new, "conditions": without_condition(new["conditions"], "Progressing")}
    elif not settled:
        new = _judge(rollout, base, new, now)
    return _with_failures(rollout, new)


def _judge(rollout: Rollout, base: Status, new: Status, now: float) -> Status:
    deployment = rollout.deployment
    subject = f'Deployment "{name(deployment)}"'
    if rollout.new is not None:
        subject = f'ReplicaSet "{name(rollout.new)}"'
    if complete(deployment, new):
        return _progress(new, "True", AVAILABLE, f"{subject} has successfully progressed.", now)
    if _moved(base, new):
        return _note_progress(base, new, f"{subject} is progressing.", now)
    if _timed_out(deployment, new, now):
        return _progress(new, "False", TIMED_OUT, f"{subject} has timed out progressing.", now)
    return new


def _note_progress(base: Status, new: Status, message: str, now: float) -> Status:
    """Progress renews lastUpdateTime even if the reason stays: the deadline counts from it."""
    fresh = _condition("Progressing", "True", "ReplicaSetUpdated", message, now)
    current = condition(base, "Progressing")
    if current is not None and current.get("status") == "True":
        fresh["lastTransitionTime"] = current.get("lastTransitionTime")
    return {**new, "conditions": [*without_condition(new["conditions"], "Progressing"), fresh]}


def complete(deployment: Object, new: Status) -> bool:
    """Whether all wanted replicas are of the present template and available, and none of another is left."""
    wanted = replicas(deployment)
    counts = (int_of(new.get(field)) for field in ("updatedReplicas", "replicas", "availableReplicas"))
    seen = int_of(new.get("observedGeneration")) >= int_of(deployment["metadata"].get("generation"))
    return all(count == wanted for count in counts) and seen


def _moved(old: Status, new: Status) -> bool:
    def count(of: Status, field: str) -> int:
        return int_of(of.get(field))

    left_before = count(old, "replicas") - count(old, "updatedReplicas")
    left_now = count(new, "replicas") - count(new, "updatedReplicas")
    grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return left_now < left_before or any(count(new, field) > count(old, field) for field in grown)


def _timed_out(deployment: Object, new: Status, now: float) -> bool:
    current = condition(new, "Progressing")
    if current is None or current.get("reason") == AVAILABLE:
        return False
    if current.get("reason") == TIMED_OUT:
        return True
    return moment(current.get("lastUpdateTime")) + int_of(spec(deployment).get("progressDeadlineSeconds")) < now


def _with_failures(rollout: Rollout, new: Status) -> Status:
    """A ReplicaSet's failure to create pods is the Deployment's too; the new one's counts most."""
    ordered = ([rollout.new] if rollout.new is not None else []) + rollout.old
    failures = (condition(status(each), "ReplicaFailure") for each in ordered)
    failure = next((each for each in failures if each is not None), None)
    if failure is None:
        return {**new, "conditions": without_condition(new["conditions"], "ReplicaFailure")}
    return _with(new, {**failure, "lastUpdateTime": failure.get("lastTransitionTime")})


def next_check(deployment: Object, new: Status, now: float) -> float | None:
    """Seconds until a rollout without progress has missed its deadline; a second more against rounding."""
    current = condition(new, "Progressing")
    if not _has_deadline(deployment) or current is None or complete(deployment, new):
        return None
    if spec(deployment).get("paused") or current.get("reason") in (TIMED_OUT, AVAILABLE):
        return None
    deadline = moment(current.get("lastUpdateTime")) + int_of(spec(deployment).get("progressDeadlineSeconds"))
    return max(0.0, deadline - now) + 1.0

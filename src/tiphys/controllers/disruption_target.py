"""The condition DisruptionTarget: why the control plane is about to end a pod (KEP-3329). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.client.types import Object
from tiphys.controllers.objects import condition, int_of, status, uid

TARGET = "DisruptionTarget"


def observed(pod: Object) -> dict[str, int]:
    """The field observedGeneration of what is written about `pod` as it is."""
    generation = int_of(pod["metadata"].get("generation"))
    return {"observedGeneration": generation} if generation else {}


def status_patch(pod: Object, condition: Mapping[str, Any] | None, **fields: Any) -> dict[str, Any]:
    """A strategic merge patch of the pod's status: `fields`, and `condition` in its place or at the end."""
    new = dict(fields)
    if condition is not None:
        present = [str(each["type"]) for each in status(pod).get("conditions") or ()]
        order = present if TARGET in present else [*present, TARGET]
        new["$setElementOrder/conditions"] = [{"type": type} for type in order]
        new["conditions"] = [condition]
    return {"metadata": {"uid": uid(pod)}, "status": new}


def target(pod: Object, reason: str, message: str, now: float) -> dict[str, Any] | None:
    """The condition for `pod`; None if it has it."""
    old: Mapping[str, Any] = condition(status(pod), TARGET) or {}
    same = old.get("status") == "True"
    if same and (old.get("reason"), old.get("message")) == (reason, message):
        return None
    since = old["lastTransitionTime"] if same and old.get("lastTransitionTime") else rfc3339(now)
    return {
        "type": TARGET,
        **observed(pod),
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }

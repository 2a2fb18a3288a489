"""Conditions of the Gateway API's objects: made, and compared with those that are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiphys.client.types import Object

Condition = dict[str, Any]


def condition(type: str, ok: bool, reason: str, message: str, obj: Object) -> Condition:
    """About the present generation of `obj`."""
    return {
        "type": type,
        "status": "True" if ok else "False",
        "reason": reason,
        "message": message[:32768],
        "observedGeneration": obj["metadata"].get("generation", 0),
    }


def stamped(new: Iterable[Condition], old: Sequence[Mapping[str, Any]], now: str) -> list[Condition]:
    """With the moments of their last transitions: kept where the status is what it was."""
    before = {one.get("type"): one for one in old}
    made = []
    for one in new:
        known = before.get(one["type"])
        same = known is not None and known.get("status") == one["status"]
        moment = known.get("lastTransitionTime") if same and known is not None else now
        made.append({**one, "lastTransitionTime": moment or now})
    return made


def conditions_of(obj: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Those in an object's status."""
    return (obj.get("status") or {}).get("conditions") or ()

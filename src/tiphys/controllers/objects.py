"""Reading Kubernetes objects: the small pure functions that every controller's decisions are made of."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from tiphys.base.clock import parse_rfc3339, rfc3339
from tiphys.base.errors import ApiError
from tiphys.client.types import Object

HASH_LABEL = "pod-template-hash"

_SAFE = "bcdfghjklmnpqrstvwxz2456789"
"""Letters and digits that cannot form words or be mistaken, as upstream uses for generated suffixes."""


def name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def namespace(obj: Object) -> str:
    return str(obj["metadata"].get("namespace") or "")


def uid(obj: Object) -> str:
    return str(obj["metadata"].get("uid") or "")


def labels(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or {}


def finalizers(obj: Object) -> Sequence[str]:
    return obj["metadata"].get("finalizers") or ()


def spec(obj: Object) -> Mapping[str, Any]:
    return obj.get("spec") or {}


def status(obj: Object) -> Mapping[str, Any]:
    return obj.get("status") or {}


def deleting(obj: Object) -> bool:
    """Whether deletion has been asked for."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def created(obj: Object) -> float:
    """When it was created, seconds since the epoch."""
    return moment(obj["metadata"].get("creationTimestamp"))


def moment(text: str | None) -> float:
    """Seconds since the epoch of an API time; 0 for none."""
    return parse_rfc3339(text) if text else 0.0


def int_of(value: Any, default: int = 0) -> int:
    """A number field that may be absent."""
    return default if value is None else int(value)


def same_wish(old: Object, new: Object) -> bool:
    """Whether two versions of an object ask for the same: only its status or its notes may differ."""
    before, after = old["metadata"], new["metadata"]
    return all(before.get(key) == after.get(key) for key in ("uid", "generation", "deletionTimestamp", "labels"))


def controller_of(obj: Object) -> Mapping[str, Any] | None:
    """The owner reference of the managing controller."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return dict(reference)
    return None


def controlled_by(obj: Object, owner: Object) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference["uid"] == uid(owner)


def controller_reference(owner: Object) -> dict[str, Any]:
    """The owner reference that makes `owner` the managing controller."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name(owner),
        "uid": uid(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def condition(obj_status: Mapping[str, Any], type: str) -> Mapping[str, Any] | None:
    """The condition of that type in a status."""
    return next((each for each in obj_status.get("conditions") or () if each and each.get("type") == type), None)


def has_condition(obj: Object, type: str, value: str = "True") -> bool:
    found = condition(status(obj), type)
    return found is not None and found.get("status") == value


def with_condition(conditions: Iterable[Mapping[str, Any]], new: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """`conditions` with `new`, at the end, in place of the one of its type.

    Nothing changes if status and reason are the same; a lastTransitionTime stays while the status does.
    """
    present = list(conditions)
    old = next((each for each in present if each["type"] == new["type"]), None)
    if old is not None and old.get("status") == new["status"] and old.get("reason") == new.get("reason"):
        return present
    if old is not None and old.get("status") == new["status"] and old.get("lastTransitionTime"):
        new = {**new, "lastTransitionTime": old["lastTransitionTime"]}
    return [*without_condition(present, new["type"]), new]


def without_condition(conditions: Iterable[Mapping[str, Any]], type: str) -> list[Mapping[str, Any]]:
    return [each for each in conditions if each["type"] != type]


def new_condition(type: str, value: str, reason: str, message: str, now: float, **times: str) -> dict[str, Any]:
    """A condition that changed at `now`; `times` are further fields."""
    stamp = rfc3339(now)
    return {
        "type": type, "status": value, "reason": reason, "message": message, "lastTransitionTime": stamp, **times,
    }  # fmt: skip


def scaled(value: Any, total: int, *, round_up: bool) -> int:
    """An IntOrString: a number, or a percentage of `total`."""
    if isinstance(value, str) and value.endswith("%"):
        share = float(value[:-1]) * total / 100
        return math.ceil(share) if round_up else math.floor(share)
    return int_of(value)


def semantically_equal(one: Any, other: Any) -> bool:
    """Equality that takes absent, null and empty for the same."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(semantically_equal(one.get(key), other.get(key)) for key in one.keys() | other.keys())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(semantically_equal, one, other))
    empty: tuple[Any, ...] = (None, {}, [], ())
    return bool(one == other) or (one in empty and other in empty)


def without_hash(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """A pod template without the label that tells revisions apart."""
    meta = template.get("metadata") or {}
    kept = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH_LABEL}
    return {**template, "metadata": {**meta, "labels": kept}}


def template_hash(template: Mapping[str, Any], collisions: int | None = None) -> str:
    """A short name for a template; another one for each count of collisions."""
    number = zlib.crc32(orjson.dumps(template, option=orjson.OPT_SORT_KEYS))
    if collisions is not None:
        number = zlib.crc32(collisions.to_bytes(4, "little"), number)
    return safe_text(str(number))


def safe_text(text: str) -> str:
    """`text` with each character replaced by a harmless one."""
    return "".join(_SAFE[ord(char) % len(_SAFE)] for char in text)


def namespace_terminating(error: Exception) -> bool:
    """Whether a creation was refused because the namespace is going away: nothing that is worth a retry."""
    if not isinstance(error, ApiError):
        return False
    causes = error.details.get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)

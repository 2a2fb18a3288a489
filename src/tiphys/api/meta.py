"""Objects' metadata, and changing objects that are shared: copy the path, leave the rest.

Everybody who holds an object that a cache gave must use `evolve` (or copy): stored objects are never changed
(docs/architecture.md, principle 3).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Of generated names: no vowels and no look-alikes, so that no words come out."""
MAX_NAME = 63
SUFFIX = 5


class _Remove:
    def __repr__(self) -> str:
        return "REMOVE"


REMOVE: Any = _Remove()
"""For `evolve`: take the field away."""


def evolve(obj: Object, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `obj` with values at dotted paths changed; only the containers on the way are copied.

    A callable value is given the old value (None if absent). REMOVE takes a field away. Paths step through
    mappings only: {"metadata.labels": {...}, "spec.replicas": 3, "status": REMOVE}.
    """
    out = dict(obj)
    for path, value in changes.items():
        evolve_at(out, path.split("."), value)
    return out


def evolve_at(out: dict[str, Any], steps: Sequence[str], value: Any) -> None:
    """Set `value` at `steps` inside `out`, which is the caller's own; what is below it is copied first."""
    *way, last = steps
    for step in way:
        found = out.get(step)
        if found is None and value is REMOVE:
            return
        out[step] = dict(found or {})
        out = out[step]
    if value is REMOVE:
        out.pop(last, None)
    else:
        out[last] = value(out.get(last)) if callable(value) else value


def dig(obj: Any, *steps: str | int, default: Any = None) -> Any:
    """The value at a path of keys and indexes, or `default` where something is missing or null."""
    for step in steps:
        if isinstance(step, int):
            if not isinstance(obj, Sequence) or not -len(obj) <= step < len(obj):
                return default
            obj = obj[step]
        elif isinstance(obj, Mapping):
            obj = obj.get(step)
        else:
            return default
    return default if obj is None else obj


def metadata(obj: Object) -> Object:
    found: Object = obj.get("metadata") or {}
    return found


def name(obj: Object) -> str:
    return str(metadata(obj).get("name", ""))


def namespace(obj: Object) -> str:
    return str(metadata(obj).get("namespace", ""))


def uid(obj: Object) -> str:
    return str(metadata(obj).get("uid", ""))


def labels_of(obj: Object) -> Mapping[str, str]:
    return metadata(obj).get("labels") or {}


def annotations_of(obj: Object) -> Mapping[str, str]:
    return metadata(obj).get("annotations") or {}


def resource_version(obj: Object) -> str:
    return str(metadata(obj).get("resourceVersion", ""))


def deleting(obj: Object) -> bool:
    """Whether deletion has been asked for."""
    return bool(metadata(obj).get("deletionTimestamp"))


def key(obj: Object) -> str:
    """namespace/name, or name alone for cluster-wide objects."""
    return key_of(namespace(obj), name(obj))


def key_of(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def split_key(key: str) -> tuple[str, str]:
    """(namespace, name)."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def api_version_group(api_version: str) -> str:
    """The group of an apiVersion; "" for v1."""
    return api_version.rpartition("/")[0]


def controller_of(obj: Object) -> Mapping[str, Any] | None:
    """The owner reference with controller: true."""
    for reference in owner_references(obj):
        if reference.get("controller"):
            return reference
    return None


def owner_references(obj: Object) -> Sequence[Mapping[str, Any]]:
    return metadata(obj).get("ownerReferences") or ()


def is_controlled_by(obj: Object, owner: Object) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == uid(owner)


def controller_reference(owner: Object, api_version: str, kind: str) -> dict[str, Any]:
    """An owner reference that makes `owner` the controller and holds back its foreground deletion."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name(owner),
        "uid": uid(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def with_finalizer(obj: Object, finalizer: str) -> dict[str, Any]:
    """A copy that has the finalizer once."""
    present = metadata(obj).get("finalizers") or []
    return evolve(obj, {"metadata.finalizers": [*(one for one in present if one != finalizer), finalizer]})


def without_finalizer(obj: Object, finalizer: str) -> dict[str, Any]:
    """A copy that has it no more; the list goes with its last entry."""
    left = [one for one in metadata(obj).get("finalizers") or [] if one != finalizer]
    return evolve(obj, {"metadata.finalizers": left or REMOVE})


LETTERS_AT_ONCE = 16
"""Letters that are drawn of one random number, which has room for more."""
UIDS_AT_ONCE = 64
"""A call of the kernel's generator costs more than the rest of a UUID."""
_entropy: list[bytes] = []


def _random_bytes() -> bytes:
    """16 of them."""
    if not _entropy:
        fresh = os.urandom(16 * UIDS_AT_ONCE)
        _entropy.extend(fresh[i : i + 16] for i in range(0, len(fresh), 16))
    return _entropy.pop()


def new_uid() -> str:
    """A random UUID (RFC 9562, version 4)."""
    digits = _random_bytes().hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def random_suffix(length: int = SUFFIX) -> str:
    number, letters = int.from_bytes(_random_bytes(), "big"), ""
    for place in range(length):
        if place and place % LETTERS_AT_ONCE == 0:
            number = int.from_bytes(_random_bytes(), "big")
        number, letter = divmod(number, len(ALPHABET))
        letters += ALPHABET[letter]
    return letters


def generate_name(prefix: str) -> str:
    """`prefix`, cut so that five random characters fit into 63."""
    return prefix[: MAX_NAME - SUFFIX] + random_suffix()


def find_condition(obj: Object, type: str) -> Mapping[str, Any] | None:
    """The condition of that type in status.conditions."""
    for condition in dig(obj, "status", "conditions", default=()):
        if condition.get("type") == type:
            found: Mapping[str, Any] = condition
            return found
    return None


def is_true(obj: Object, condition: str) -> bool:
    """Whether a condition's status is "True"."""
    return (find_condition(obj, condition) or {}).get("status") == "True"


def set_condition(conditions: Sequence[Mapping[str, Any]], condition: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """`conditions` with one set; lastTransitionTime stays while its status does."""
    out, found = [], False
    for old in conditions:
        if old.get("type") != condition["type"]:
            out.append(old)
            continue
        found = True
        same = old.get("status") == condition.get("status")
        kept = {"lastTransitionTime": old["lastTransitionTime"]} if same and "lastTransitionTime" in old else {}
        out.append({**condition, **kept})
    return out if found else [*out, condition]

"""The fields of metadata that the server owns: set on create, carried over on update."""

from __future__ import annotations

from typing import Any

from tiphys.api.meta import generate_name, new_uid
from tiphys.base.clock import rfc3339
from tiphys.base.errors import BadRequest

OWNED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion")

_TWICE = (
    ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject"
    " such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "
)
_TWICE_ADMITTED = (
    ".metadata.ownerReferences contains duplicate entries after mutating admission happens; API server dedups owner"
    " references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s)"
    " observed: "
)


def wipe(obj: dict[str, Any]) -> dict[str, Any]:
    """Take from a new object's metadata what only the server says; returns it."""
    metadata: dict[str, Any] = obj.setdefault("metadata", {})
    for field in OWNED:
        metadata.pop(field, None)
    return metadata


def initialize(metadata: dict[str, Any], now: float) -> None:
    """Fill in what the server says of a new object. A name is generated where one is asked for."""
    for field in OWNED:
        metadata.pop(field, None)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = generate_name(metadata["generateName"])
    metadata["uid"] = new_uid()
    metadata["creationTimestamp"] = rfc3339(now)


def distinct_owners(metadata: dict[str, Any], *, admitted: bool = False) -> list[str]:
    """Leave each owner reference once; the warnings for those who sent one twice. `admitted`: it came by a patch,
    whose result upstream looks at after admission."""
    owners = metadata.get("ownerReferences")
    if not owners or len(owners) < 2:
        return []
    kept: list[Any] = []
    twice = []
    for owner in owners:
        if owner in kept:
            twice.append(owner.get("uid", ""))
        else:
            kept.append(owner)
    if not twice:
        return []
    metadata["ownerReferences"] = kept
    return [(_TWICE_ADMITTED if admitted else _TWICE) + ", ".join(twice)]


def carry_over(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Put what an update may not touch back into `new`, the metadata that a client sent."""
    if old.get("generation"):
        new["generation"] = old["generation"]
    else:
        new.pop("generation", None)
    new.pop("selfLink", None)
    new["creationTimestamp"] = old["creationTimestamp"]
    if not new.get("uid"):
        new["uid"] = old["uid"]
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        if field in old and (field == "deletionTimestamp" or new.get(field) is None):
            new[field] = old[field]
    if "deletionTimestamp" not in old and new.get("deletionTimestamp") is None:
        new.pop("deletionTimestamp", None)


def match_namespace(metadata: dict[str, Any], namespace: str) -> None:
    """The namespace of the URL goes into the object. Raises BadRequest if the object names another."""
    found = metadata.get("namespace") or ""
    if not namespace:
        metadata.pop("namespace", None)
    elif not found:
        metadata["namespace"] = namespace
    elif found != namespace:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")


def match_name(metadata: dict[str, Any], name: str) -> None:
    """The name of the URL and of the object must agree. Raises BadRequest."""
    found = metadata.get("name") or ""
    if not found:
        raise BadRequest(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if found != name:
        raise BadRequest(f"the name of the object ({found}) does not match the name on the URL ({name})")

"""An object that a webhook or a policy changed takes the place of the one in the request."""

from __future__ import annotations

from typing import Any

import orjson

from tiphys.apiserver.types import Attributes


def snapshot(obj: Any) -> bytes:
    """An object as it is now, to compare with what it becomes."""
    return orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)


def replace_object(attributes: Attributes, new: dict[str, Any]) -> bool:
    """Put `new` in the place of the request's object, which others hold; whether that changed anything."""
    obj = attributes.obj
    assert obj is not None, "only an object that is there can be changed"
    metadata = new.setdefault("metadata", {})
    before = obj.get("metadata") or {}
    metadata.pop("managedFields", None)
    for field_ in ("resourceVersion", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        metadata.pop(field_, None)
        if field_ in before:
            metadata[field_] = before[field_]
    if new == obj:
        return False
    # Parts that their owners hold are kept and refilled; those of an update may be shared with what is stored.
    held = {key: obj[key] for key in ("metadata", "spec") if key == "metadata" or attributes.old is None if key in obj}
    obj.clear()
    obj.update(new)
    for key, part in held.items():
        if isinstance(part, dict) and isinstance(obj.get(key), dict):
            value = obj[key]
            part.clear()
            part.update(value)
            obj[key] = part
    return True

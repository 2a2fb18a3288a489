"""JSON patches that webhooks answer with: read, and applied; upstream's words when they do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tiphys.api.patch import json_patch
from tiphys.apiserver.webhooks.versions import internal
from tiphys.base.errors import ApiError, InternalError

Operations = Sequence[Mapping[str, Any]]


def read(patch: bytes) -> Operations:
    """The operations. Raises ValueError."""
    operations = orjson.loads(patch)
    if operations is None:
        return ()
    try:
        json_patch.check(operations)
    except ApiError as error:
        raise ValueError(error.message) from error
    return list(operations)


def apply(obj: Mapping[str, Any], operations: Operations) -> dict[str, Any]:
    """The changed object; `obj` stays as it is. Raises InternalError."""
    try:
        patched = json_patch.apply(obj, operations)
    except ApiError as error:
        raise _misfit(obj, operations) from error
    if not isinstance(patched, dict):
        raise internal("couldn't get version/kind; json parse error: the patched document is no object")
    return patched


def _misfit(obj: Any, operations: Operations) -> InternalError:
    """Which operation does not fit."""
    for operation in operations:
        try:
            obj = json_patch.apply(obj, [operation])
        except ApiError:
            return internal(misfit(operation))
    return internal("the copies that the patch makes are too large")


def misfit(operation: Mapping[str, Any]) -> str:
    """Why an operation does not fit, in upstream's words."""
    name, path = str(operation.get("op")), str(operation.get("path"))
    if name == "test":
        return f"testing value {path} failed: test failed"
    if name == "replace":
        return f"replace operation does not apply: doc is missing key: {path}: missing value"
    if name == "remove":
        key = path.rpartition("/")[2]
        return f"remove operation does not apply: doc is missing path: {path}: Unable to remove nonexistent key: {key}"
    if name in ("add", "move", "copy"):
        return f'{name} operation does not apply: doc is missing path: "{path}": missing value'
    return f"Unexpected kind: {name}"

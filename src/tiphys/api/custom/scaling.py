"""The numbers that a scale subresource reads and writes: they have to be numbers, and not too large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tiphys.api.custom.gotext import shown
from tiphys.api.custom.results import invalid
from tiphys.api.kinds.base import FieldError, ScalePaths
from tiphys.api.patch.gotext import go_text

Struct = Mapping[str, Any]
_MAX = 2**31 - 1
_GO = {
    str: "string",
    bool: "bool",
    float: "float64",
    int: "int64",
    list: "[]interface {}",
    dict: "map[string]interface {}",
}


def paths(scale: Struct | None) -> ScalePaths | None:
    """The paths of `subresources.scale`."""
    if scale is None:
        return None
    found = (scale.get(name) or "" for name in ("specReplicasPath", "statusReplicasPath", "labelSelectorPath"))
    return ScalePaths(*(path.removeprefix(".") for path in found))


def spec_problems(obj: Struct, scale: Struct | None) -> Iterator[FieldError]:
    """What is wrong with spec.replicas, or whatever it is called."""
    if scale is not None:
        yield from _replicas(obj, scale.get("specReplicasPath") or "")


def status_problems(obj: Struct, scale: Struct | None) -> Iterator[FieldError]:
    """What is wrong with the replicas and the selector in the status."""
    if scale is None:
        return
    yield from _replicas(obj, scale.get("statusReplicasPath") or "")
    path = scale.get("labelSelectorPath")
    if path is not None:
        _, problem = _nested(obj, path, str)
        if problem:
            yield invalid(path, "", problem)


def _replicas(obj: Struct, path: str) -> Iterator[FieldError]:
    value, problem = _nested(obj, path, int)
    if problem:
        yield invalid(path, 0, problem)
    elif value is not None and value < 0:
        yield invalid(path, value, "should be a non-negative integer")
    elif value is not None and value > _MAX:
        yield invalid(path, value, f"should be less than or equal to {_MAX}")


def _nested(obj: Any, path: str, wanted: type) -> tuple[Any, str]:
    """What stands at a path, and what keeps it from being read."""
    at, names = obj, path.removeprefix(".").split(".")
    for i, name in enumerate(names):
        if at is None:
            return None, ""
        if not isinstance(at, Mapping):
            where = ".".join(names[:i])
            return (
                None,
                f".{where} accessor error: {_text(at)} is of the type {_type(at)}, expected map[string]interface{{}}",
            )
        if name not in at:
            return None, ""
        at = at[name]
    if at.__class__ is wanted:
        return at, ""
    kind = "string" if wanted is str else "int64"
    return None, f".{'.'.join(names)} accessor error: {_text(at)} is of the type {_type(at)}, expected {kind}"


def _text(value: Any) -> str:
    return shown(value) if isinstance(value, float) else go_text(value)


def _type(value: Any) -> str:
    return "<nil>" if value is None else _GO[dict if isinstance(value, Mapping) else value.__class__]

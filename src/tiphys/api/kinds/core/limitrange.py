"""LimitRange (API reference, core/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds.amounts import round_up
from tiphys.api.kinds.base import Context, MutableObject, Object
from tiphys.api.kinds.common import CreatedAtKind, child, fill_empty
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import qualified_name
from tiphys.api.validation.quantities import amount, container_resource_name, overcommit_allowed, resource_name

Struct = Mapping[str, Any]

_TYPES = ("Pod", "Container", "PersistentVolumeClaim")
_UNIT = 10**9


class LimitRange(CreatedAtKind):
    plural, kind = "limitranges", "LimitRange"
    revalidates_metadata = True
    allow_create_on_update = True

    def default(self, obj: MutableObject, version: str) -> None:
        for item in child(obj, "spec").get("limits") or ():
            round_up(item, "max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
            if item.get("type") == "Container":
                default, request = child(item, "default"), child(item, "defaultRequest")
                for target, source in ((default, "max"), (request, "default"), (request, "min")):
                    for name, value in (item.get(source) or {}).items():
                        target.setdefault(name, value)
                for field in ("default", "defaultRequest"):
                    if not item[field]:
                        del item[field]

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        """A limit range needs no name of its own: its uid will do."""
        meta = child(obj, "metadata")
        fill_empty(meta, name=meta.get("uid", ""))

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        seen: set[str] = set()
        for i, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
            path, kind = f"spec.limits[{i}]", item.get("type", "")
            _type(errors, f"{path}.type", kind)
            if kind in seen:
                errors.duplicate(f"{path}.type", kind)
            seen.add(kind)
            _item(errors, path, item, kind)


def _type(errors: Errors, path: str, kind: str) -> None:
    if found := qualified_name(kind):
        errors.each(path, kind, found)
    elif "/" not in kind and kind not in _TYPES:
        errors.invalid(path, kind, "must be a standard limit type or fully qualified")


def _item(errors: Errors, path: str, item: Struct, kind: str) -> None:
    check = container_resource_name if kind in ("Pod", "Container") else resource_name
    fields = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]
    if kind == "Pod":
        for name in ("default", "defaultRequest"):
            fields.remove(name)
            if item.get(name):
                errors.forbidden(f"{path}.{name}", "may not be specified when `type` is 'Pod'")
    for field in fields:
        if field == "maxLimitRequestRatio" and kind == "PersistentVolumeClaim":
            _storage(errors, path, item)
        for name in sorted(item.get(field) or ()):
            check(errors, f"{path}.{field}[{name}]", name)
    names = {name for field in fields for name in item.get(field) or ()}
    for name in sorted(names):
        _bounds(errors, path, name, {field: (item.get(field) or {}).get(name) for field in fields})


def _storage(errors: Errors, path: str, item: Struct) -> None:
    if all("storage" not in (item.get(field) or {}) for field in ("min", "max")):
        detail = "either minimum or maximum storage value is required, but neither was provided"
        errors.required(f"{path}.limits", detail)


_ORDER = (
    ("min", "max", "min", "min", "min value {} is greater than max value {}"),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "defaultRequest",
        "min value {} is greater than default request value {}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than max value {}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than default limit value {}",
    ),
    ("min", "default", "default", "min", "min value {} is greater than default value {}"),
    ("default", "max", "default", "max", "default value {} is greater than max value {}"),
)
"""(smaller, larger, field of the error, field whose value is shown, text)."""


def _bounds(errors: Errors, path: str, name: str, values: Mapping[str, str | None]) -> None:
    for small, large, field, shown, text in _ORDER:
        one, other = values.get(small), values.get(large)
        if one is not None and other is not None and amount(one) > amount(other):
            errors.invalid(f"{path}.{field}[{name}]", values[shown], text.format(one, other))
    ratio, low, high = values.get("maxLimitRequestRatio"), values.get("min"), values.get("max")
    if ratio is not None:
        where = f"{path}.maxLimitRequestRatio[{name}]"
        if amount(ratio) < _UNIT:
            errors.invalid(where, ratio, f"ratio {ratio} is less than 1")
        if low is not None and high is not None and amount(low):
            most = amount(high) / amount(low)
            if amount(ratio) / _UNIT > most:
                errors.invalid(where, ratio, f"ratio {ratio} is greater than max/min = {most:f}")
    default, request = values.get("default"), values.get("defaultRequest")
    if default is None or request is None or overcommit_allowed(name):
        return
    if amount(default) != amount(request):
        detail = f"default value {default} must equal to defaultRequest value {request} in {name}"
        errors.invalid(f"{path}.defaultRequest[{name}]", request, detail)

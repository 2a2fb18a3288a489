"""ResourceQuota (API reference, core/v1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.amounts import round_up
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import StatusKind
from tiphys.api.validation.errors import IMMUTABLE, Errors
from tiphys.api.validation.quantities import amount, is_quota_resource, quantity_value, quota_resource_name

Struct = Mapping[str, Any]

_COUNTED = frozenset(("pods",))
_COMPUTE = frozenset(["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"])
_CLAIMS = frozenset(("persistentvolumeclaims", "requests.storage"))
_SCOPES: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        ("Terminating", "NotTerminating", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"),
        _COUNTED | _COMPUTE,
    ),
    "BestEffort": _COUNTED,
    "VolumeAttributesClass": _CLAIMS,
}
"""The resources that each scope may limit."""
_EXISTS_ONLY = ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity")
_CONFLICTS = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})
_MUST_EXIST = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating,"
    " ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)


class ResourceQuota(StatusKind):
    plural, kind = "resourcequotas", "ResourceQuota"
    counts_generation = False
    columns = (
        printing.NAME,
        Column(
            "Request",
            description="Request represents a minimum amount of cpu/memory that a container may consume.",
        ),
        Column(
            "Limit",
            description="Limits control the maximum amount of cpu/memory that a container may use"
            " independent of contention on the node.",
        ),
        printing.AGE,
    )

    def default(self, obj: MutableObject, version: str) -> None:
        round_up(obj.get("spec"), "hard")
        round_up(obj.get("status"), "hard", "used")

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec = obj.get("spec") or {}
        hard = spec.get("hard") or {}
        _amounts(errors, "spec.hard", hard)
        if scopes := spec.get("scopes"):
            _scopes(errors, "spec.scopes", scopes, hard)
        if (selector := spec.get("scopeSelector")) is not None:
            _selector(errors, "spec.scopeSelector.matchExpressions", selector, hard, scopes)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self.check(errors, new, context)
        scopes = (new.get("spec") or {}).get("scopes")
        if set(scopes or ()) != set((old.get("spec") or {}).get("scopes") or ()):
            errors.invalid("spec.scopes", scopes, IMMUTABLE)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        for name in ("hard", "used"):
            _amounts(errors, f"status.{name}", (new.get("status") or {}).get(name) or {})
        return errors

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        hard = (obj.get("spec") or {}).get("hard") or {}
        found = []
        for name in ("cpu", "memory", "ephemeral-storage"):
            request = f"requests.{name}"
            if request not in hard and name in ("cpu", "memory"):
                request = name
            limit = f"limits.{name}"
            if request in hard and limit in hard and amount(hard[request]) > amount(hard[limit]):
                text = f"{request} ({hard[request]}) should be less than {limit} ({hard[limit]})"
                found.append(f"ResourceQuota {text}")
        return found if old is None else []

    def cells(self, obj: Object, now: float) -> list[Any]:
        status = obj.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        texts: tuple[list[str], list[str]] = ([], [])
        for name in sorted(hard):
            texts[name.startswith("limits.")].append(f"{name}: {used.get(name, '0')}/{hard[name]}")
        return [printing.name(obj), ", ".join(texts[0]), ", ".join(texts[1]), printing.age(obj, now)]


def _amounts(errors: Errors, path: str, values: Struct) -> None:
    for name in sorted(values):
        quota_resource_name(errors, f"{path}[{name}]", name)
        quantity_value(errors, f"{path}[{name}]", name, values[name])


def _unfit(scope: str, hard: Struct) -> int:
    """How many of the limited resources the scope is not for."""
    fit = _SCOPES.get(scope)
    return 0 if fit is None else sum(is_quota_resource(name) and name not in fit for name in hard)


def _conflicts(errors: Errors, path: str, scopes: set[str], shown: Sequence[str] | None) -> None:
    for pair in _CONFLICTS:
        if pair <= scopes:
            errors.invalid(path, shown, "conflicting scopes")


def _scopes(errors: Errors, path: str, scopes: list[str], hard: Struct) -> None:
    for scope in scopes:
        if scope not in _SCOPES:
            errors.invalid(path, scopes, "unsupported scope")
        for _ in range(_unfit(scope, hard)):
            errors.invalid(path, scopes, "unsupported scope applied to resource")
    _conflicts(errors, path, set(scopes), scopes)


def _selector(errors: Errors, path: str, selector: Struct, hard: Struct, scopes: list[str] | None) -> None:
    seen: set[str] = set()
    expressions = selector.get("matchExpressions") or ()
    for expression in expressions:
        scope, operator = expression.get("scopeName", ""), expression.get("operator", "")
        if scope not in _SCOPES:
            errors.invalid(f"{path}.scopeName", scope, "unsupported scope")
        for _ in range(_unfit(scope, hard)):
            errors.invalid(path, _shown(selector), "unsupported scope applied to resource")
        if scope in _EXISTS_ONLY and operator != "Exists":
            errors.invalid(f"{path}.operator", operator, _MUST_EXIST)
        _values(errors, path, operator, expression.get("values"))
        seen.add(scope)
    _conflicts(errors, path, seen, scopes)


def _shown(selector: Struct) -> dict[str, Any]:
    names = {"scopeName": "ScopeName", "operator": "Operator", "values": "Values"}
    return {
        "MatchExpressions": [
            {shown: e.get(name, None if name == "values" else "") for name, shown in names.items()}
            for e in selector.get("matchExpressions") or ()
        ]
    }


def _values(errors: Errors, path: str, operator: str, values: list[str] | None) -> None:
    if operator in ("In", "NotIn"):
        detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
        errors.non_empty(f"{path}.values", values, detail)
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            errors.invalid(f"{path}.values", values, detail)
    else:
        errors.invalid(f"{path}.operator", operator, "not a valid selector operator")

"""Rules of a job's spec: completion modes, failure and success policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds.base import ErrorType, FieldError, quote
from tiphys.api.kinds.batch.indexes import interval_count
from tiphys.api.kinds.core.pod_warnings import pod_warnings
from tiphys.api.kinds.workload import non_negative
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import qualified_name
from tiphys.api.validation.paths import domain_path
from tiphys.api.validation.pods import pod_template

Struct = Mapping[str, Any]

_NUMBERS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)
_MANY, _FEW = 100_000, 10_000
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_NEEDS_INDEXED = "requires indexed completion mode"


def omitted(errors: Errors, path: str, detail: str) -> None:
    """An invalid value that is not shown."""
    errors.append(FieldError(ErrorType.INVALID, path, f"Invalid value: {detail}"))


def _choices(values: tuple[str, ...]) -> str:
    return "valid values: [" + " ".join(quote(value) for value in values) + "]"


def job_spec(errors: Errors, path: str, spec: Struct) -> None:
    """All of a spec but its selector."""
    non_negative(errors, path, spec, *_NUMBERS)
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        errors.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    if (manager := spec.get("managedBy")) is not None:
        _manager(errors, f"{path}.managedBy", manager)
    mode = spec.get("completionMode")
    errors.one_of(f"{path}.completionMode", mode, ("NonIndexed", "Indexed"))
    if mode == "Indexed":
        _indexed(errors, path, spec)
    elif mode in (None, "NonIndexed"):
        for name in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(name) is not None:
                errors.invalid(f"{path}.{name}", spec[name], _NEEDS_INDEXED)
    if (policy := spec.get("podFailurePolicy")) is not None:
        _failure_policy(errors, f"{path}.podFailurePolicy.rules", policy.get("rules") or (), spec)
    if (policy := spec.get("successPolicy")) is not None:
        if mode == "Indexed":
            _success_policy(errors, f"{path}.successPolicy.rules", policy.get("rules") or (), spec)
        else:
            errors.invalid(f"{path}.successPolicy", _policy_shown(policy), _NEEDS_INDEXED)
    replacement = spec.get("podReplacementPolicy")
    allowed = ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
    errors.one_of(f"{path}.podReplacementPolicy", replacement, allowed)
    template = spec.get("template") or {}
    pod_template(errors, f"{path}.template", template)
    _restart_policy(errors, f"{path}.template.spec.restartPolicy", template, spec)


def _policy_shown(policy: Struct) -> dict[str, Any]:
    rules = [
        {"SucceededIndexes": rule.get("succeededIndexes"), "SucceededCount": rule.get("succeededCount")}
        for rule in policy.get("rules") or ()
    ]
    return {"Rules": rules if policy.get("rules") is not None else None}


def _restart_policy(errors: Errors, path: str, template: Struct, spec: Struct) -> None:
    policy = (template.get("spec") or {}).get("restartPolicy", "")
    if policy in ("", "Always"):
        errors.required(path, 'valid values: "OnFailure", "Never"')
    elif policy not in ("OnFailure", "Never"):
        errors.unsupported(path, policy, ("OnFailure", "Never"))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        errors.invalid(path, policy, 'only "Never" is supported when podFailurePolicy is specified')


def _manager(errors: Errors, path: str, name: str) -> None:
    domain_path(errors, path, name)
    if len(name) > 63:
        errors.too_long(path, 63)


def _indexed(errors: Errors, path: str, spec: Struct) -> None:
    completions, parallelism = spec.get("completions"), spec.get("parallelism") or 0
    failed = spec.get("maxFailedIndexes")
    if completions is None:
        errors.required(f"{path}.completions", "when completion mode is Indexed")
    if parallelism > _MANY:
        detail = f"must be less than or equal to {_MANY} when completion mode is Indexed"
        errors.invalid(f"{path}.parallelism", parallelism, detail)
    if failed is not None:
        if completions is not None and failed > completions:
            errors.invalid(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions")
        if failed > _MANY:
            errors.invalid(f"{path}.maxFailedIndexes", failed, f"must be less than or equal to {_MANY}")
    if (completions or 0) <= _MANY or spec.get("backoffLimitPerIndex") is None:
        return
    if failed is None:
        errors.required(f"{path}.maxFailedIndexes", f"must be specified when completions is above {_MANY}")
    for name, value in (("parallelism", parallelism), ("maxFailedIndexes", failed or 0)):
        if value > _FEW:
            limits = f"{_FEW} when completions are above {_MANY} and used with backoff limit per index"
            errors.invalid(f"{path}.{name}", value, f"must be less than or equal to {limits}")


def _failure_policy(errors: Errors, path: str, rules: Any, spec: Struct) -> None:
    if len(rules) > 20:
        errors.too_many(path, len(rules), 20)
    pod = (spec.get("template") or {}).get("spec") or {}
    names = {c.get("name") for key in ("containers", "initContainers") for c in pod.get(key) or ()}
    for i, rule in enumerate(rules):
        where, action = f"{path}[{i}]", rule.get("action", "")
        errors.enum(f"{where}.action", action, _ACTIONS, _choices(_ACTIONS))
        if action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            errors.invalid(f"{where}.action", action, "requires the backoffLimitPerIndex to be set")
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or ()
        if codes is not None:
            _exit_codes(errors, f"{where}.onExitCodes", codes, names)
        if conditions:
            _pod_conditions(errors, f"{where}.onPodConditions", conditions)
        if codes is not None and conditions:
            omitted(errors, where, "specifying both OnExitCodes and OnPodConditions is not supported")
        elif codes is None and not conditions:
            omitted(errors, where, "specifying one of OnExitCodes and OnPodConditions is required")


def _exit_codes(errors: Errors, path: str, codes: Struct, names: set[Any]) -> None:
    operator, values = codes.get("operator", ""), codes.get("values") or []
    errors.enum(f"{path}.operator", operator, ("In", "NotIn"), _choices(("In", "NotIn")))
    name = codes.get("containerName")
    if name is not None and name not in names:
        detail = "must be one of the container or initContainer names in the pod template"
        errors.invalid(f"{path}.containerName", name, detail)
    where = f"{path}.values"
    if not values:
        errors.invalid(where, codes.get("values"), "at least one value is required")
    elif len(values) > 255:
        errors.too_many(where, len(values), 255)
    seen: set[int] = set()
    for i, value in enumerate(values):
        if operator == "In" and value == 0:
            errors.invalid(f"{where}[{i}]", value, "must not be 0 for the In operator")
        if value in seen:
            errors.duplicate(f"{where}[{i}]", value)
        seen.add(value)
    if values != sorted(values):
        errors.invalid(where, values, "must be ordered")


def _pod_conditions(errors: Errors, path: str, patterns: Any) -> None:
    if len(patterns) > 20:
        errors.too_many(path, len(patterns), 20)
    states = ("False", "True", "Unknown")
    for i, pattern in enumerate(patterns):
        kind = pattern.get("type", "")
        errors.each(f"{path}[{i}].type", kind, qualified_name(kind))
        errors.enum(f"{path}[{i}].status", pattern.get("status"), states, _choices(states))


def _success_policy(errors: Errors, path: str, rules: Any, spec: Struct) -> None:
    if not rules:
        errors.required(path, "at least one rules must be specified when the successPolicy is specified")
    if len(rules) > 20:
        errors.too_many(path, len(rules), 20)
    for i, rule in enumerate(rules):
        _success_rule(errors, f"{path}[{i}]", rule, spec.get("completions") or 0)


def _success_rule(errors: Errors, path: str, rule: Struct, completions: int) -> None:
    indexes, count = rule.get("succeededIndexes"), rule.get("succeededCount")
    total = 0
    if indexes is None and count is None:
        errors.required(path, "at least one of succeededCount or succeededIndexes must be specified")
    if indexes is not None:
        if len(indexes) > 64 * 1024:
            errors.too_long(f"{path}.succeededIndexes", 64 * 1024)
        try:
            total = interval_count(indexes, completions)
        except ValueError as error:
            errors.invalid(f"{path}.succeededIndexes", indexes, f"error parsing succeededIndexes: {error}")
    if count is None:
        return
    where = f"{path}.succeededCount"
    errors.non_negative(where, count)
    if count > completions:
        detail = f"must be less than or equal to {completions} (the number of specified completions)"
        errors.invalid(where, count, detail)
    if indexes is not None and count > total:
        limit = f"{total} (the number of indexes in the specified succeededIndexes field)"
        errors.invalid(where, count, f"must be less than or equal to {limit}")


def job_warnings(spec: Struct, path: str) -> list[str]:
    found = []
    completions, parallelism = spec.get("completions") or 0, spec.get("parallelism") or 0
    if spec.get("completionMode") == "Indexed" and completions > _MANY and parallelism > _FEW:
        found.append(
            f"{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than"
            " 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        )
    template = spec.get("template") or {}
    return [*found, *pod_warnings(template.get("spec") or {}, template.get("metadata") or {}, f"{path}.template")]

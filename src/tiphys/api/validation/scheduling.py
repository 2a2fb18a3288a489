"""Where a pod may run: affinity, tolerations, topology spread, taints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import label_name, label_selector, node_selector, node_selector_term
from tiphys.api.validation.names import dns_label, label_value

Struct = Mapping[str, Any]

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED, _PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


def affinity(errors: Errors, path: str, value: Struct | None) -> None:
    if not value:
        return
    if node := value.get("nodeAffinity"):
        _node_affinity(errors, f"{path}.nodeAffinity", node)
    for name in ("podAffinity", "podAntiAffinity"):
        if pods := value.get(name):
            _pod_affinity(errors, f"{path}.{name}", pods)


def _weight(errors: Errors, path: str, term: Struct) -> None:
    weight = term.get("weight") or 0
    if not 0 < weight <= 100:
        errors.invalid(f"{path}.weight", weight, "must be in the range 1-100")


def _node_affinity(errors: Errors, path: str, value: Struct) -> None:
    if (required := value.get(_REQUIRED)) is not None:
        node_selector(errors, f"{path}.{_REQUIRED}", required)
    for i, term in enumerate(value.get(_PREFERRED) or ()):
        where = f"{path}.{_PREFERRED}[{i}]"
        _weight(errors, where, term)
        node_selector_term(errors, f"{where}.preference", term.get("preference") or {}, any_value=True)


def _pod_affinity(errors: Errors, path: str, value: Struct) -> None:
    for i, term in enumerate(value.get(_REQUIRED) or ()):
        _pod_affinity_term(errors, f"{path}.{_REQUIRED}[{i}]", term)
    for i, weighted in enumerate(value.get(_PREFERRED) or ()):
        where = f"{path}.{_PREFERRED}[{i}]"
        _weight(errors, where, weighted)
        _pod_affinity_term(errors, f"{where}.podAffinityTerm", weighted.get("podAffinityTerm") or {})


def _pod_affinity_term(errors: Errors, path: str, term: Struct) -> None:
    label_selector(errors, f"{path}.labelSelector", term.get("labelSelector"))
    label_selector(errors, f"{path}.namespaceSelector", term.get("namespaceSelector"))
    for name in term.get("namespaces") or ():
        errors.each(f"{path}.namespace", name, dns_label(name))
    _match_label_keys(errors, path, term)
    key = term.get("topologyKey", "")
    errors.non_empty(f"{path}.topologyKey", key, "can not be empty")
    label_name(errors, f"{path}.topologyKey", key)


def _match_label_keys(errors: Errors, path: str, term: Struct) -> None:
    match, mismatch = term.get("matchLabelKeys") or (), term.get("mismatchLabelKeys") or ()
    selector = term.get("labelSelector")
    for name, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", mismatch)):
        if keys and selector is None:
            errors.forbidden(f"{path}.{name}", "must not be specified when labelSelector is not set")
        elif keys:
            for i, key in enumerate(keys):
                label_name(errors, f"{path}.{name}[{i}]", key)
    if match and selector is not None:
        _selector_overlap(errors, path, list(match), selector)
    for i, key in enumerate(match):
        if key in mismatch:
            detail = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.invalid(f"{path}.matchLabelKeys[{i}]", key, detail)


def _selector_overlap(errors: Errors, path: str, keys: list[str], selector: Struct) -> None:
    seen = set(selector.get("matchLabels") or ())
    for requirement in selector.get("matchExpressions") or ():
        key = requirement.get("key", "")
        if key in keys and key in seen:
            errors.invalid(f"{path}[{keys.index(key)}]", key, "exists in both matchLabelKeys and labelSelector")
        seen.add(key)


def topology_spread(errors: Errors, path: str, constraints: Sequence[Struct]) -> None:
    for i, constraint in enumerate(constraints):
        where = f"{path}[{i}]"
        key, action = constraint.get("topologyKey", ""), constraint.get("whenUnsatisfiable", "")
        errors.positive(f"{where}.maxSkew", constraint.get("maxSkew") or 0)
        errors.non_empty(f"{where}.topologyKey", key, "can not be empty")
        errors.one_of(f"{where}.whenUnsatisfiable", action, ("DoNotSchedule", "ScheduleAnyway"))
        rest = ((c.get("topologyKey", ""), c.get("whenUnsatisfiable", "")) for c in constraints[i + 1 :])
        if (key, action) in rest:
            errors.duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}")
        _min_domains(errors, f"{where}.minDomains", constraint.get("minDomains"), action)
        for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            errors.one_of(f"{where}.{name}", constraint.get(name), ("Honor", "Ignore"))
        _match_label_keys(errors, where, constraint)
        label_selector(errors, f"{where}.labelSelector", constraint.get("labelSelector"))


def _min_domains(errors: Errors, path: str, count: int | None, action: str) -> None:
    if count is None:
        return
    errors.positive(path, count)
    if action != "DoNotSchedule":
        detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
        errors.invalid(path, count, detail)


def tolerations(errors: Errors, path: str, listed: Sequence[Struct]) -> None:
    for i, toleration in enumerate(listed):
        _toleration(errors, f"{path}[{i}]", toleration)


def _toleration(errors: Errors, path: str, toleration: Struct) -> None:
    key, value = toleration.get("key", ""), toleration.get("value", "")
    operator, effect = toleration.get("operator", ""), toleration.get("effect", "")
    if key:
        label_name(errors, f"{path}.key", key)
    elif operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errors.invalid(f"{path}.operator", operator, detail)
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        errors.invalid(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
    if operator in ("", "Equal"):
        if found := label_value(value):
            errors.invalid(f"{path}.operator", value, ";".join(found))
    elif operator == "Exists":
        if value:
            errors.invalid(f"{path}.operator", value, "value must be empty when `operator` is 'Exists'")
    else:
        allowed = ("Equal", "Exists", "Lt", "Gt") if operator in ("Lt", "Gt") else ("Equal", "Exists")
        errors.unsupported(f"{path}.operator", operator, allowed)
    if effect:
        errors.one_of(f"{path}.effect", effect, EFFECTS)


def taints(errors: Errors, path: str, listed: Sequence[Struct]) -> None:
    seen: set[tuple[str, str]] = set()
    for i, taint in enumerate(listed):
        where = f"{path}[{i}]"
        key, value, effect = (taint.get(name, "") for name in ("key", "value", "effect"))
        label_name(errors, f"{where}.key", key)
        if found := label_value(value):
            errors.invalid(f"{where}.value", value, ";".join(found))
        errors.enum(f"{where}.effect", effect, EFFECTS)
        if (effect, key) in seen:
            shown = {"Key": key, "Value": value, "Effect": effect, "TimeAdded": taint.get("timeAdded")}
            errors.duplicate(where, shown, "taints must be unique by key and effect pair")
        seen.add((effect, key))

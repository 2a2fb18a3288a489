"""FlowSchema (API reference, flowcontrol.apiserver.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import StatusKind, child, fill_empty
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns_label, dns_subdomain

Struct = Mapping[str, Any]

_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_SUBJECTS = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}
_SUBJECT_ORDER = ("serviceAccount", "user", "group")
_LOWEST_PRECEDENCE = 10_000
_EVERYTHING: Struct = {
    "resourceRules": [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
    ],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
}


def _groups(*names: str) -> list[dict[str, Any]]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


_MANDATORY: dict[str, Struct] = {
    "exempt": {
        "matchingPrecedence": 1,
        "priorityLevelConfiguration": {"name": "exempt"},
        "rules": [{"subjects": _groups("system:masters"), **_EVERYTHING}],
    },
    "catch-all": {
        "matchingPrecedence": _LOWEST_PRECEDENCE,
        "priorityLevelConfiguration": {"name": "catch-all"},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": _groups("system:unauthenticated", "system:authenticated"), **_EVERYTHING}],
    },
}


class FlowSchema(StatusKind):
    group, plural, kind = "flowcontrol.apiserver.k8s.io", "flowschemas", "FlowSchema"
    revalidates_metadata = True
    columns = (
        printing.NAME,
        Column("PriorityLevel", description="@PriorityLevelConfigurationReference.name"),
        Column("MatchingPrecedence", description="@FlowSchemaSpec.matchingPrecedence"),
        Column("DistinguisherMethod", description="@FlowSchemaSpec.distinguisherMethod"),
        printing.AGE,
        Column("MissingPL", description="references a broken or non-existent PriorityLevelConfiguration"),
    )

    def default(self, obj: MutableObject, version: str) -> None:
        fill_empty(child(obj, "spec"), matchingPrecedence=1000)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        name, spec = printing.name(obj), obj.get("spec") or {}
        _spec(errors, "spec", spec, name)
        if name in _MANDATORY and _set(spec) != _MANDATORY[name]:
            errors.invalid("spec", spec, f"spec of '{name}' must equal the fixed value")
        unique_conditions(errors, obj)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        unique_conditions(errors, new)
        return errors

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec = obj.get("spec") or {}
        conditions = (obj.get("status") or {}).get("conditions") or ()
        method = spec.get("distinguisherMethod")
        return [
            printing.name(obj),
            (spec.get("priorityLevelConfiguration") or {}).get("name", ""),
            spec.get("matchingPrecedence") or 0,
            printing.NONE if method is None else method.get("type", ""),
            printing.age(obj, now),
            next((c.get("status", "") for c in conditions if c.get("type") == "Dangling"), "?"),
        ]


def _set(value: Any) -> Any:
    """A struct without fields that say nothing."""
    if isinstance(value, dict):
        return {name: _set(part) for name, part in value.items() if part not in (None, False, [], "")}
    return [_set(part) for part in value] if isinstance(value, list) else value


def unique_conditions(errors: Errors, obj: Object) -> None:
    """Conditions of a status, one of each type."""
    seen: set[str] = set()
    for i, condition in enumerate((obj.get("status") or {}).get("conditions") or ()):
        path, kind = f"status.conditions[{i}].type", condition.get("type", "")
        if kind in seen:
            errors.duplicate(path, kind)
        seen.add(kind)
        errors.non_empty(path, kind)


def _spec(errors: Errors, path: str, spec: Struct, name: str) -> None:
    where, precedence = f"{path}.matchingPrecedence", spec.get("matchingPrecedence") or 0
    if precedence <= 0:
        errors.invalid(where, precedence, "must be a positive value")
    if precedence > _LOWEST_PRECEDENCE:
        errors.invalid(where, precedence, f"must not be greater than {_LOWEST_PRECEDENCE}")
    if precedence == 1 and name != "exempt":
        errors.invalid(where, precedence, "only the schema named 'exempt' may have matchingPrecedence 1")
    if (method := spec.get("distinguisherMethod")) is not None and method.get("type") not in ("ByNamespace", "ByUser"):
        shown = {"Type": method.get("type", "")}
        errors.unsupported(f"{path}.distinguisherMethod.type", shown, ("ByNamespace", "ByUser"))
    level = (spec.get("priorityLevelConfiguration") or {}).get("name", "")
    if errors.non_empty(f"{path}.priorityLevelConfiguration.name", level, "must reference a priority level"):
        errors.each(f"{path}.priorityLevelConfiguration.name", level, dns_subdomain(level))
    for i, rule in enumerate(spec.get("rules") or ()):
        _rule(errors, f"{path}.rules[{i}]", rule)


def _rule(errors: Errors, path: str, rule: Struct) -> None:
    subjects, resources, others = (rule.get(key) or () for key in ("subjects", "resourceRules", "nonResourceRules"))
    errors.non_empty(f"{path}.subjects", subjects, "subjects must contain at least one value")
    for i, subject in enumerate(subjects):
        _subject(errors, f"{path}.subjects[{i}]", subject)
    if not resources and not others:
        errors.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty")
    for i, part in enumerate(resources):
        _resource_rule(errors, f"{path}.resourceRules[{i}]", part)
    for i, part in enumerate(others):
        where, urls = f"{path}.nonResourceRules[{i}]", part.get("nonResourceURLs") or []
        _verbs(errors, f"{where}.verbs", part.get("verbs") or [])
        none = "nonResourceURLs must contain at least one value"
        if _listed(errors, f"{where}.nonResourceURLs", urls, none, "non-resource URLs"):
            for j, url in enumerate(urls):
                if problem := _url_problem(url):
                    errors.invalid(f"{where}.nonResourceURLs[{j}]", url, problem)


def _subject(errors: Errors, path: str, subject: Struct) -> None:
    kind = subject.get("kind", "")
    name = _SUBJECTS.get(kind)
    if name is None:
        errors.unsupported(f"{path}.kind", kind, tuple(_SUBJECTS))
        return
    if (who := subject.get(name)) is None:
        errors.required(f"{path}.{name}", f"{name} is required when subject kind is '{kind}'")
    else:
        _who(errors, f"{path}.{name}", who, is_account=name == "serviceAccount")
    for other in _SUBJECT_ORDER:
        if other != name and subject.get(other) is not None:
            wanted = other[0].upper() + other[1:]
            errors.forbidden(f"{path}.{other}", f"{other} is forbidden when subject kind is not '{wanted}'")


def _who(errors: Errors, path: str, who: Struct, *, is_account: bool) -> None:
    name, namespace = who.get("name", ""), who.get("namespace", "")
    if errors.non_empty(f"{path}.name", name) and is_account and name != "*":
        errors.each(f"{path}.name", name, dns_subdomain(name))
    if is_account and errors.non_empty(f"{path}.namespace", namespace, "must specify namespace for service account"):
        errors.each(f"{path}.namespace", namespace, dns_label(namespace))


def _listed(errors: Errors, path: str, values: Sequence[str], none: str, what: str) -> bool:
    """Whether the values are to be looked at one by one: they are there, and none of them is the wildcard."""
    if not errors.non_empty(path, values, none):
        return False
    if "*" not in values:
        return True
    if len(values) > 1:
        errors.invalid(path, values, f"if '*' is present, must not specify other {what}")
    return False


def _verbs(errors: Errors, path: str, verbs: Sequence[str]) -> None:
    listed = _listed(errors, path, verbs, "verbs must contain at least one value", "verbs")
    if listed and not set(verbs) <= set(_VERBS):
        errors.unsupported(path, verbs, _VERBS)


def _resource_rule(errors: Errors, path: str, rule: Struct) -> None:
    namespaces = rule.get("namespaces") or []
    _verbs(errors, f"{path}.verbs", rule.get("verbs") or [])
    for name, one, what in (("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")):
        _listed(errors, f"{path}.{name}", rule.get(name) or [], f"resource rules must supply at least one {one}", what)
    if not namespaces and rule.get("clusterScope"):
        return
    none = "resource rules that are not cluster scoped must supply at least one namespace"
    if _listed(errors, f"{path}.namespaces", namespaces, none, "namespaces"):
        for i, namespace in enumerate(namespaces):
            found = (f"each member of this list must be '*' or a DNS-1123 label; {m}" for m in dns_label(namespace))
            errors.each(f"{path}.namespaces[{i}]", namespace, found)


def _url_problem(url: str) -> str:
    if not url:
        return "must not be empty"
    if url == "/":
        return ""
    if not url.startswith("/"):
        return "must start with slash"
    if " " in url:
        return "must not contain white-space"
    if "//" in url:
        return "must not contain double slash"
    wildcards = url.count("*")
    misplaced = wildcards > 1 or (wildcards == 1 and not url.endswith("/*"))
    return "wildcard can only do suffix matching" if misplaced else ""

"""What requests a webhook or a policy is asked about: operations, resources, selectors, conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds.admissionregistration.expressions import Compiled, Compiler, Names, returns
from tiphys.api.kinds.base import MutableObject
from tiphys.api.kinds.common import setdefaults
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import label_selector
from tiphys.api.validation.names import path_segment, qualified_name

Struct = Mapping[str, Any]

FAILURE_POLICIES = ("Fail", "Ignore")
REINVOCATION_POLICIES = ("IfNeeded", "Never")
MUTATING_OPERATIONS = ("*", "CONNECT", "CREATE", "UPDATE")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_MATCH_POLICIES = ("Equivalent", "Exact")
_SCOPES = ("*", "Cluster", "Namespaced")
_SELECTORS = ("namespaceSelector", "objectSelector")
_MAX_CONDITIONS = 64
_STATIC = ".static.k8s.io"
_NAMES = Names(authorizer=True)


def default_matching(struct: MutableObject) -> None:
    """Fields that webhooks and the match resources of policies share."""
    setdefaults(struct, matchPolicy="Equivalent")
    for name in _SELECTORS:
        setdefaults(struct, **{name: {}})


def default_match_resources(resources: MutableObject | None) -> None:
    if resources is None:
        return
    default_matching(resources)
    for name in ("resourceRules", "excludeResourceRules"):
        default_rules(resources.get(name))


def default_rules(rules: Sequence[MutableObject] | None) -> None:
    for rule in rules or ():
        setdefaults(rule, scope="*")


def static_warning(name: str) -> list[str]:
    """Names that are reserved for configuration in files."""
    if not name.endswith(_STATIC):
        return []
    text = "are reserved for static manifest-based configurations and cannot be managed via the API"
    return [f'metadata.name: names ending with "{_STATIC}" {text}']


def selectors(errors: Errors, path: str, struct: Struct, *, any_value: bool = False) -> None:
    for name in _SELECTORS:
        label_selector(errors, f"{path}.{name}", struct.get(name), any_value=any_value)


def match_policy(errors: Errors, path: str, struct: Struct) -> None:
    errors.one_of(f"{path}.matchPolicy", struct.get("matchPolicy"), _MATCH_POLICIES)


def rule(errors: Errors, path: str, value: Struct) -> None:
    """A RuleWithOperations."""
    operations = value.get("operations") or []
    errors.non_empty(f"{path}.operations", operations)
    _lonely(errors, f"{path}.operations", operations, "operations")
    for i, operation in enumerate(operations):
        errors.one_of(f"{path}.operations[{i}]", operation, _OPERATIONS)
    for name, what in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        errors.non_empty(f"{path}.{name}", value.get(name))
        _lonely(errors, f"{path}.{name}", value.get(name) or [], what)
    for i, version in enumerate(value.get("apiVersions") or ()):
        errors.non_empty(f"{path}.apiVersions[{i}]", version)
    _resources(errors, f"{path}.resources", value.get("resources") or [])
    errors.one_of(f"{path}.scope", value.get("scope"), _SCOPES)


def _lonely(errors: Errors, path: str, values: Sequence[str], what: str) -> None:
    if len(values) > 1 and "*" in values:
        errors.invalid(path, values, f"if '*' is present, must not specify other {what}")


def _resources(errors: Errors, path: str, resources: Sequence[str]) -> None:
    errors.non_empty(path, resources)
    with_any_part: set[str] = set()
    parts_of_any: set[str] = set()
    plain = False
    for i, name in enumerate(resources):
        if not errors.non_empty(f"{path}[{i}]", name):
            continue
        resource, slash, part = name.partition("/")
        if not slash:
            plain = name != "*"
            continue
        if resource in with_any_part:
            errors.invalid(f"{path}[{i}]", name, f"if '{resource}/*' is present, must not specify {name}")
        if part in parts_of_any:
            errors.invalid(f"{path}[{i}]", name, f"if '*/{part}' is present, must not specify {name}")
        if part == "*":
            with_any_part.add(resource)
        if resource == "*":
            parts_of_any.add(part)
    if len(resources) > 1 and "*/*" in resources:
        errors.invalid(path, resources, "if '*/*' is present, must not specify other resources")
    if "*" in resources and plain:
        errors.invalid(path, resources, "if '*' is present, must not specify other resources without subresources")


def match_resources(errors: Errors, path: str, resources: Struct) -> None:
    if resources.get("matchPolicy") is None:
        errors.required(f"{path}.matchPolicy")
    match_policy(errors, path, resources)
    for name in _SELECTORS:
        if resources.get(name) is None:
            errors.required(f"{path}.{name}")
    selectors(errors, path, resources)
    for name in ("resourceRules", "excludeResourceRules"):
        for i, named in enumerate(resources.get(name) or ()):
            _named_rule(errors, f"{path}.{name}[{i}]", named)


def _named_rule(errors: Errors, path: str, named: Struct) -> None:
    seen: set[str] = set()
    for i, name in enumerate(named.get("resourceNames") or ()):
        errors.each(f"{path}.resourceNames[{i}]", name, path_segment(name))
        if name in seen:
            errors.duplicate(f"{path}.resourceNames[{i}]", name)
        seen.add(name)
    rule(errors, path, named)


def mutating_operations(errors: Errors, path: str, resources: Struct) -> None:
    """What is deleted cannot be changed."""
    for value in resources.get("resourceRules") or ():
        for operation in value.get("operations") or ():
            errors.one_of(f"{path}.resourceRules.operations", operation, MUTATING_OPERATIONS)


def _compile(source: str, names: Names) -> Compiled:
    return Compiler().compile(source, returns("condition"), names)


def match_conditions(errors: Errors, path: str, conditions: Sequence[Struct], names: Names = _NAMES) -> None:
    """`names` are those that their expressions may use besides the usual ones; they know no variables."""
    if len(conditions) > _MAX_CONDITIONS:
        errors.too_many(path, len(conditions), _MAX_CONDITIONS)
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        name, source = condition.get("name", ""), condition.get("expression", "").strip()
        if errors.non_empty(f"{path}[{i}].expression", source) and (found := _compile(source, names)).error:
            errors.invalid(f"{path}[{i}].expression", source, found.error)
        if not errors.non_empty(f"{path}[{i}].name", name):
            continue
        errors.each(f"{path}[{i}].name", name, qualified_name(name))
        if name in seen:
            errors.duplicate(f"{path}[{i}].name", name)
        seen.add(name)

"""Bindings of admission policies (API reference, admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.admissionregistration.matching import (
    default_match_resources,
    match_resources,
    mutating_operations,
    static_warning,
)
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import PlainKind
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import label_selector
from tiphys.api.validation.names import dns_subdomain, path_segment

Struct = Mapping[str, Any]

_ACTIONS = ("Audit", "Deny", "Warn")
_EXCLUSIVE = "name and selector are mutually exclusive"
_TWICE = (
    "must not contain both Deny and Warn (repeating the same validation failure information in the API response and "
    "headers serves no purpose)"
)


class AdmissionPolicyBinding(PlainKind):
    """What both kinds have in common."""

    group = "admissionregistration.k8s.io"
    unconditional_update = False
    revalidates_metadata = True
    counts_generation = True
    qualified_finalizers = False
    columns = (
        printing.NAME,
        Column(
            "PolicyName", description="PolicyName indicates the policy definition which the policy binding binded to"
        ),
        Column("ParamRef", description="ParamRef indicates the param resource which sets the configuration param"),
        printing.AGE,
    )

    def default(self, obj: MutableObject, version: str) -> None:
        default_match_resources((obj.get("spec") or {}).get("matchResources"))

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec: Struct = obj.get("spec") or {}
        if errors.non_empty("spec.policyName", name := spec.get("policyName", "")):
            errors.each("spec.policyName", name, dns_subdomain(name))
        if (reference := spec.get("paramRef")) is not None:
            _param_ref(errors, "spec.paramRef", reference)
        if (resources := spec.get("matchResources")) is not None:
            match_resources(errors, "spec.matchResources", resources)

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        return static_warning(printing.name(obj))

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec: Struct = obj.get("spec") or {}
        reference = _param_text(spec.get("paramRef") or {})
        return [printing.name(obj), spec.get("policyName", ""), reference, printing.age(obj, now)]


class ValidatingAdmissionPolicyBinding(AdmissionPolicyBinding):
    plural, kind = "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        super().check(errors, obj, context)
        _actions(errors, "spec.validationActions", (obj.get("spec") or {}).get("validationActions") or [])


class MutatingAdmissionPolicyBinding(AdmissionPolicyBinding):
    plural, kind = "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding"

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        super().check(errors, obj, context)
        mutating_operations(errors, "spec.matchResources", (obj.get("spec") or {}).get("matchResources") or {})


def _param_text(reference: Struct) -> str:
    if name := reference.get("name"):
        return f"{reference.get('namespace') or '*'}/{name}"
    selector = reference.get("selector")
    return printing.UNSET if selector is None else _go_text(selector)


def _go_text(selector: Struct) -> str:
    """A label selector as Go's generated String methods write it."""
    matched = selector.get("matchLabels") or {}
    pairs = "".join(f"{key}: {matched[key]}," for key in sorted(matched))
    requirements = "".join(
        f"LabelSelectorRequirement{{Key:{r.get('key', '')},Operator:{r.get('operator', '')},"
        f"Values:[{' '.join(r.get('values') or ())}],}},"
        for r in selector.get("matchExpressions") or ()
    )
    expressions = f"[]LabelSelectorRequirement{{{requirements}}}"
    return f"&LabelSelector{{MatchLabels:map[string]string{{{pairs}}},MatchExpressions:{expressions},}}"


def _param_ref(errors: Errors, path: str, reference: Struct) -> None:
    name, selector = reference.get("name", ""), reference.get("selector")
    if name:
        errors.each(f"{path}.name", name, path_segment(name))
        if selector is not None:
            errors.forbidden(f"{path}.name", _EXCLUSIVE)
    if selector is not None:
        label_selector(errors, f"{path}.selector", selector)
        if name:
            errors.forbidden(f"{path}.selector", _EXCLUSIVE)
    elif not name:
        errors.required(path, "one of name or selector must be specified")
    errors.enum(f"{path}.parameterNotFoundAction", reference.get("parameterNotFoundAction"), ("Deny", "Allow"))


def _actions(errors: Errors, path: str, actions: Sequence[str]) -> None:
    seen: set[str] = set()
    for i, action in enumerate(actions):
        errors.one_of(f"{path}[{i}]", action, _ACTIONS)
        if action in seen:
            errors.duplicate(f"{path}[{i}]", action)
        seen.add(action)
    if {"Deny", "Warn"} <= seen:
        errors.invalid(path, actions, _TWICE)
    errors.non_empty(path, seen, "at least one validation action is required")

"""ValidatingAdmissionPolicy and MutatingAdmissionPolicy (API reference, admissionregistration.k8s.io/v1).

Expressions are compiled, each in the environment that it is going to run in, and what is wrong with them is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.admissionregistration.expressions import Compiler, Names, returns
from tiphys.api.kinds.admissionregistration.matching import (
    FAILURE_POLICIES,
    REINVOCATION_POLICIES,
    default_match_resources,
    match_conditions,
    match_resources,
    mutating_operations,
    static_warning,
)
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import PlainKind, child, keep, setdefaults
from tiphys.api.validation.conditions import conditions
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns1035_label, dns_subdomain, qualified_name

Struct = Mapping[str, Any]

_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_PATCHES = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}
_MAX_ANNOTATIONS, _MAX_EXPRESSION = 20, 5 * 1024
_NOTHING = "validations or auditAnnotations must contain at least one item"
_is_identifier = re.compile("[_a-zA-Z][_a-zA-Z0-9]*").fullmatch
_has_line_break = re.compile(r"[\n\r]").search
_PARAM_KIND = Column(
    "ParamKind", description="ParamKind specifies the kind of resources used to parameterize this policy"
)


class AdmissionPolicy(PlainKind):
    """What both kinds have in common."""

    group = "admissionregistration.k8s.io"
    unconditional_update = False
    revalidates_metadata = True
    counts_generation = True
    qualified_finalizers = False
    counted = ""
    """The list of the spec whose length is shown."""

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        setdefaults(spec, failurePolicy="Fail")
        default_match_resources(spec.get("matchConstraints"))

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        return static_warning(printing.name(obj))

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec: Struct = obj.get("spec") or {}
        kind, text = spec.get("paramKind"), printing.UNSET
        if kind is not None:
            text = f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}"
        return [printing.name(obj), len(spec.get(self.counted) or ()), text, printing.age(obj, now)]


class ValidatingAdmissionPolicy(AdmissionPolicy):
    plural, kind = "validatingadmissionpolicies", "ValidatingAdmissionPolicy"
    has_status = True
    counted = "validations"
    columns = (
        printing.NAME,
        Column(
            "Validations",
            "integer",
            description="Validations indicates the number of validation rules defined in this configuration",
        ),
        _PARAM_KIND,
        printing.AGE,
    )

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        obj["status"] = {}

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        keep(new, old, "status")

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        self._spec(errors, obj, {})

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self._spec(errors, new, old)

    def _spec(self, errors: Errors, obj: Object, old: Object) -> None:
        path, spec, compiler = "spec", obj.get("spec") or {}, Compiler()
        _common(errors, path, spec, old.get("spec"), compiler)
        annotations, validations = spec.get("auditAnnotations") or [], spec.get("validations") or ()
        if not validations and not annotations:
            for name in ("validations", "auditAnnotations"):
                errors.required(f"{path}.{name}", _NOTHING)
            return
        for i, validation in enumerate(validations):
            _validation(errors, f"{path}.validations[{i}]", validation, compiler, _names(spec))
        _annotations(errors, f"{path}.auditAnnotations", annotations, printing.name(obj), compiler, _names(spec))

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors, status = Errors(), new.get("status") or {}
        warnings = (status.get("typeChecking") or {}).get("expressionWarnings") or ()
        for i, warning in enumerate(warnings):
            path = f"status.typeChecking.expressionWarnings[{i}]"
            errors.non_empty(f"{path}.warning", warning.get("warning"))
            errors.non_empty(f"{path}.fieldRef", warning.get("fieldRef", "").strip())
        conditions(errors, "status.conditions", status.get("conditions"))
        return errors


class MutatingAdmissionPolicy(AdmissionPolicy):
    plural, kind = "mutatingadmissionpolicies", "MutatingAdmissionPolicy"
    counted = "mutations"
    columns = (
        printing.NAME,
        Column(
            "Mutations",
            "integer",
            description="Mutation indicates the number of mutations rules defined in this configuration",
        ),
        _PARAM_KIND,
        printing.AGE,
    )

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        self._spec(errors, obj, {})

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self._spec(errors, new, old)

    def _spec(self, errors: Errors, obj: Object, old: Object) -> None:
        path, spec, compiler = "spec", obj.get("spec") or {}, Compiler()
        compiler.compose()
        _common(errors, path, spec, old.get("spec"), compiler, mutating=True)
        errors.non_empty(f"{path}.mutations", spec.get("mutations"), "mutations must contain at least one item")
        for i, mutation in enumerate(spec.get("mutations") or ()):
            _mutation(errors, f"{path}.mutations[{i}]", mutation, compiler, _names(spec))
        errors.enum(f"{path}.reinvocationPolicy", spec.get("reinvocationPolicy"), REINVOCATION_POLICIES)


def _names(spec: Struct) -> Names:
    """What the expressions of a policy may name."""
    return Names(params=spec.get("paramKind") is not None, authorizer=True)


def _compiled(errors: Errors, path: str, source: str, kind: str, compiler: Compiler, names: Names) -> None:
    """An expression that is there must compile to a type that its place takes."""
    if (found := compiler.compile(source, returns(kind), names)).error:
        errors.invalid(path, source, found.error)


def _common(
    errors: Errors, path: str, spec: Struct, was: Struct | None, compiler: Compiler, *, mutating: bool = False
) -> None:
    policy, resources = spec.get("failurePolicy"), spec.get("matchConstraints")
    if policy is None:
        errors.required(f"{path}.failurePolicy")
    errors.one_of(f"{path}.failurePolicy", policy, FAILURE_POLICIES)
    if (kind := spec.get("paramKind")) is not None:
        _param_kind(errors, f"{path}.paramKind", kind)
    where = f"{path}.matchConstraints"
    if resources is None:
        errors.required(where)
    else:
        match_resources(errors, where, resources)
        errors.non_empty(f"{where}.resourceRules", resources.get("resourceRules"))
        if mutating:
            mutating_operations(errors, where, resources)
    if was is None or any(
        (spec.get(key) or None) != (was.get(key) or None) for key in ("paramKind", "matchConditions")
    ):
        match_conditions(errors, f"{path}.matchConditions", spec.get("matchConditions") or (), _names(spec))
    for i, variable in enumerate(spec.get("variables") or ()):
        compiler.compose()
        _variable(errors, f"{path}.variables[{i}]", variable, compiler, _names(spec))


def _param_kind(errors: Errors, path: str, value: Struct) -> None:
    kind = value.get("kind", "")
    if errors.non_empty(f"{path}.apiVersion", version := value.get("apiVersion", "")):
        _group_version(errors, f"{path}.apiVersion", version)
    if errors.non_empty(f"{path}.kind", kind) and (found := dns1035_label(kind.lower())):
        errors.invalid(f"{path}.kind", kind, f"may have mixed case, but should otherwise match: {','.join(found)}")


def _group_version(errors: Errors, path: str, value: str) -> None:
    if value.count("/") > 1:
        errors.invalid(path, value, f"unexpected GroupVersion string: {value}")
        return
    group, _, version = value.rpartition("/")
    if group and (found := dns_subdomain(group)):
        errors.invalid(path, group, ",".join(found))
    if not version:
        errors.invalid(path, value, "version must be specified")
    elif found := dns1035_label(version):
        errors.invalid(path, version, ",".join(found))


def _variable(errors: Errors, path: str, variable: Struct, compiler: Compiler, names: Names) -> None:
    from tiphys.api.cel.lexer import RESERVED

    name, source = variable.get("name", ""), variable.get("expression", "")
    named = errors.non_empty(f"{path}.name", name.strip(), "name is not specified")
    if named and (not _is_identifier(name) or name in RESERVED):
        errors.invalid(f"{path}.name", name, "must be a valid CEL identifier")
    if errors.non_empty(f"{path}.expression", source.strip(), "expression is not specified"):
        found = compiler.define(name, source, names)
        if found.error:
            errors.invalid(f"{path}.expression", source, found.error)


def _validation(errors: Errors, path: str, validation: Struct, compiler: Compiler, names: Names) -> None:
    source = validation.get("expression", "")
    if errors.non_empty(f"{path}.expression", source.strip(), "expression is not specified"):
        _compiled(errors, f"{path}.expression", source, "validation", compiler, names)
    for name in ("messageExpression", "message"):
        value = validation.get(name, "")
        if value and not value.strip():
            errors.invalid(f"{path}.{name}", value, "must be non-empty if specified")
        elif value and name == "messageExpression":
            _compiled(errors, f"{path}.{name}", value, "message", compiler, names._replace(authorizer=False))
        elif name == "message" and _has_line_break(value.strip()):
            errors.invalid(f"{path}.message", value, "must not contain line breaks")
    errors.one_of(f"{path}.reason", validation.get("reason"), _REASONS)


def _annotations(
    errors: Errors, path: str, annotations: Sequence[Struct], policy: str, compiler: Compiler, names: Names
) -> None:
    if len(annotations) > _MAX_ANNOTATIONS:
        shown = [{"Key": a.get("key", ""), "ValueExpression": a.get("valueExpression", "")} for a in annotations]
        errors.invalid(path, shown, f"must not have more than {_MAX_ANNOTATIONS} auditAnnotations")
    seen: set[str] = set()
    for i, annotation in enumerate(annotations):
        key, expression = annotation.get("key", ""), annotation.get("valueExpression", "").strip()
        if policy:
            errors.each(f"{path}[{i}].key", f"{policy}/{key}", qualified_name(f"{policy}/{key}"))
        else:
            errors.invalid(f"{path}[{i}].key", key, "requires metadata.name be non-empty")
        where = f"{path}[{i}].valueExpression"
        if not errors.non_empty(where, expression, "valueExpression is not specified"):
            pass
        elif len(expression.encode()) > _MAX_EXPRESSION:
            errors.required(where, f"must not exceed {_MAX_EXPRESSION} bytes in length")
        elif (found := compiler.compile(expression, returns("annotation"), names)).error:
            errors.invalid(where, annotation["valueExpression"], found.error)
        if key in seen:
            errors.duplicate(f"{path}[{i}].key", key)
        seen.add(key)


def _mutation(errors: Errors, path: str, mutation: Struct, compiler: Compiler, names: Names) -> None:
    kind = mutation.get("patchType", "")
    errors.enum(f"{path}.patchType", kind, tuple(_PATCHES))
    if kind not in _PATCHES:
        return
    name = _PATCHES[kind]
    if (patch := mutation.get(name)) is None:
        errors.required(f"{path}.{name}", f"must be specified when patchType is {kind}")
    elif errors.non_empty(f"{path}.{name}.expression", source := patch.get("expression", "").strip()):
        _compiled(errors, f"{path}.{name}.expression", source, kind, compiler, names._replace(patches=True))
    for other in _PATCHES.values():
        if other != name and mutation.get(other) is not None:
            detail = f"must not be specified when patchType is {kind}"
            errors.invalid(f"{path}.{other}", f"{{{other}}}", detail)

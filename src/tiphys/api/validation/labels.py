"""Labels, label selectors and node selectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns_subdomain, label_value, qualified_name

Struct = Mapping[str, Any]

BAD_OPERATOR = "not a valid selector operator"


def label_name(errors: Errors, path: str, name: str) -> None:
    if found := qualified_name(name):
        errors.each(path, name, found)


def labels(errors: Errors, path: str, values: Mapping[str, str] | None) -> None:
    for key in sorted(values or ()):
        label_name(errors, path, key)
        value = values[key] if values else ""
        if found := label_value(value):
            errors.each(path, value, found)


def _values_of(errors: Errors, path: str, requirement: Struct) -> bool:
    """Checks the values of a requirement whose operator is one of the four of sets; False for another operator."""
    operator, values = requirement.get("operator", ""), requirement.get("values") or ()
    if operator in ("In", "NotIn"):
        errors.non_empty(f"{path}.values", values, "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            errors.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    else:
        return False
    return True


def _check_values(errors: Errors, path: str, requirement: Struct) -> None:
    for i, value in enumerate(requirement.get("values") or ()):
        errors.each(f"{path}.values[{i}]", value, label_value(value))


def label_selector(
    errors: Errors, path: str, selector: Struct | None, *, any_value: bool = False, unknown_operator: bool = False
) -> None:
    """A meta/v1 LabelSelector. `any_value` leaves the values of requirements unchecked."""
    if not selector:
        return
    labels(errors, f"{path}.matchLabels", selector.get("matchLabels"))
    for i, requirement in enumerate(selector.get("matchExpressions") or ()):
        where = f"{path}.matchExpressions[{i}]"
        if not _values_of(errors, where, requirement) and not unknown_operator:
            errors.invalid(f"{where}.operator", requirement.get("operator", ""), BAD_OPERATOR)
        label_name(errors, f"{where}.key", requirement.get("key", ""))
        if not any_value:
            _check_values(errors, where, requirement)


def node_selector_requirement(errors: Errors, path: str, requirement: Struct, *, any_value: bool = False) -> None:
    if not _values_of(errors, path, requirement):
        operator = requirement.get("operator", "")
        if operator not in ("Gt", "Lt"):
            errors.invalid(f"{path}.operator", operator, BAD_OPERATOR)
        elif len(requirement.get("values") or ()) != 1:
            errors.required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
    label_name(errors, f"{path}.key", requirement.get("key", ""))
    if not any_value:
        _check_values(errors, path, requirement)


def node_field_requirement(errors: Errors, path: str, requirement: Struct) -> None:
    operator, values = requirement.get("operator", ""), requirement.get("values") or ()
    if operator not in ("In", "NotIn"):
        errors.invalid(f"{path}.operator", operator, BAD_OPERATOR)
    elif len(values) != 1:
        detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        errors.required(f"{path}.values", detail)
    if requirement.get("key") != "metadata.name":
        errors.invalid(f"{path}.key", requirement.get("key", ""), "not a valid field selector key")
        return
    for i, value in enumerate(values):
        errors.each(f"{path}.values[{i}]", value, dns_subdomain(value))


def node_selector_term(errors: Errors, path: str, term: Struct, *, any_value: bool = False) -> None:
    for i, requirement in enumerate(term.get("matchExpressions") or ()):
        node_selector_requirement(errors, f"{path}.matchExpressions[{i}]", requirement, any_value=any_value)
    for i, requirement in enumerate(term.get("matchFields") or ()):
        node_field_requirement(errors, f"{path}.matchFields[{i}]", requirement)


def node_selector(errors: Errors, path: str, selector: Struct, *, any_value: bool = False) -> None:
    terms: Sequence[Struct] = selector.get("nodeSelectorTerms") or ()
    where = f"{path}.nodeSelectorTerms"
    if not terms:
        errors.required(where, "must have at least one node selector term")
    for i, term in enumerate(terms):
        node_selector_term(errors, f"{where}[{i}]", term, any_value=any_value)


def matches(selector: Struct, values: Mapping[str, str]) -> bool:
    """Whether a valid LabelSelector selects an object with these labels."""
    if any(values.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_meets(requirement, values) for requirement in selector.get("matchExpressions") or ())


def _meets(requirement: Struct, values: Mapping[str, str]) -> bool:
    value = values.get(requirement.get("key", ""))
    match requirement.get("operator"):
        case "In":
            return value is not None and value in (requirement.get("values") or ())
        case "NotIn":
            return value is None or value not in (requirement.get("values") or ())
        case "Exists":
            return value is not None
        case _:
            return value is None


def is_empty(selector: Struct | None) -> bool:
    return not selector or (not selector.get("matchLabels") and not selector.get("matchExpressions"))

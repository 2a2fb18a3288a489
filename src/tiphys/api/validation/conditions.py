"""Conditions of meta/v1, which newer kinds have in their status."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import label_name
from tiphys.api.validation.names import regex_error

Struct = Mapping[str, Any]

_MAX_REASON, _MAX_MESSAGE = 1024, 32 * 1024
_REASON = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_is_reason = re.compile(_REASON).fullmatch
_REASON_ERROR = regex_error(
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric"
    " characters or '_,:', and must end with an alphanumeric character or '_'",
    _REASON,
    "my_name",
    "MY_NAME",
    "MyName",
    "ReasonA,ReasonB",
    "ReasonA:ReasonB",
)


def conditions(errors: Errors, path: str, listed: Sequence[Struct] | None) -> None:
    seen: set[str] = set()
    for i, condition in enumerate(listed or ()):
        kind = condition.get("type", "")
        if kind in seen:
            errors.duplicate(f"{path}[{i}].type", kind)
        seen.add(kind)
        _condition(errors, f"{path}[{i}]", condition)


def _condition(errors: Errors, path: str, condition: Struct) -> None:
    reason = condition.get("reason", "")
    label_name(errors, f"{path}.type", condition.get("type", ""))
    errors.one_of(f"{path}.status", condition.get("status", ""), ("False", "True", "Unknown"))
    if (generation := condition.get("observedGeneration") or 0) < 0:
        errors.invalid(f"{path}.observedGeneration", generation, "must be greater than or equal to zero")
    errors.non_empty(f"{path}.lastTransitionTime", condition.get("lastTransitionTime"))
    if errors.non_empty(f"{path}.reason", reason):
        if not _is_reason(reason):
            errors.invalid(f"{path}.reason", reason, _REASON_ERROR)
        if len(reason.encode()) > _MAX_REASON:
            errors.too_long(f"{path}.reason", _MAX_REASON)
    if len(condition.get("message", "").encode()) > _MAX_MESSAGE:
        errors.too_long(f"{path}.message", _MAX_MESSAGE)

"""The selectors of a request as authorizers see them: requirements that narrow what is asked for.

What cannot be understood is left out: the question is then a broader one, which is safe to ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tiphys.api.selectors import ABSENT, EQUALS, EXISTS, IN, NOT_EQUALS, NOT_IN, parse_fields, parse_labels
from tiphys.apiserver.types import RequestInfo
from tiphys.base.errors import BadRequest

_OPERATORS = {
    EQUALS: "In",
    IN: "In",
    NOT_EQUALS: "NotIn",
    NOT_IN: "NotIn",
    EXISTS: "Exists",
    ABSENT: "DoesNotExist",
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement, with the operators of the authorization API."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def shown(self) -> dict[str, Any]:
        out: dict[str, Any] = {"key": self.key, "operator": self.operator}
        return {**out, "values": list(self.values)} if self.values else out


def fields(info: RequestInfo) -> tuple[Requirement, ...]:
    """Of the field selector."""
    return _fields(info.field_selector) if info.field_selector else ()


def labels(info: RequestInfo) -> tuple[Requirement, ...]:
    """Of the label selector."""
    return _labels(info.label_selector) if info.label_selector else ()


def selects(info: RequestInfo, field: str, value: str) -> bool:
    """Whether the field selector demands field == value."""
    return Requirement(field, "In", (value,)) in fields(info)


@lru_cache(maxsize=1024)
def _fields(text: str) -> tuple[Requirement, ...]:
    try:
        terms = parse_fields(text).terms
    except BadRequest:
        return ()
    return tuple(Requirement(key, "In" if equal else "NotIn", (value,)) for key, value, equal in terms)


@lru_cache(maxsize=1024)
def _labels(text: str) -> tuple[Requirement, ...]:
    try:
        found = parse_labels(text).requirements
    except BadRequest:
        return ()
    return tuple(
        Requirement(each.key, _OPERATORS[each.operator], tuple(sorted(each.values)))
        for each in found
        if each.operator in _OPERATORS
    )

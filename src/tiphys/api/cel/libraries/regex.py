"""The `regex` library of Kubernetes: find and findAll."""

from __future__ import annotations

from tiphys.api.cel.libraries.re2 import Pattern, PatternError, compile_pattern
from tiphys.api.cel.libraries.sizes import estimate_matching, matching_cost
from tiphys.api.cel.types import INT, STRING, EvaluationError, Function, Library, Overload, Type, list_of

_STRINGS = list_of(STRING)


def _pattern(text: str) -> Pattern:
    try:
        return compile_pattern(text)
    except PatternError as error:
        raise EvaluationError(f"Illegal regex: {error}") from None


def find(text: str, pattern: str) -> str:
    """The first match; "" when there is none."""
    match = _pattern(pattern).find(text)
    return "" if match is None else text[match[0] : match[1]]


def find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    """A negative `limit` means all."""
    return _pattern(pattern).find_all(text, max(limit, -1))


def _overload(id: str, implementation: object, result: Type, *more: Type) -> Overload:
    assert callable(implementation)
    return Overload(
        id,
        (STRING, STRING, *more),
        result,
        implementation,
        member=True,
        cost=matching_cost,
        estimate=estimate_matching,
    )


REGEX = Library(
    "kubernetes.regex",
    (
        Function("find", (_overload("string_find_string", find, STRING),)),
        Function(
            "findAll",
            (
                _overload("string_find_all_string", find_all, _STRINGS),
                _overload("string_find_all_string_int", find_all, _STRINGS, INT),
            ),
        ),
    ),
)

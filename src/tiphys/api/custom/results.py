"""What validation of a value against a schema found: problems, and a score of how much of a schema a value fits.

The score decides which alternative of an anyOf or oneOf is explained to the client: the one that fits best. Source:
k8s.io/kube-openapi/pkg/validation, whose words these are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiphys.api.custom.gotext import shown
from tiphys.api.kinds.base import ErrorType, FieldError, required, too_long, too_many

MISSING: Any = object()
"""Stands for a bad value that is not shown."""
_DETAILED = {ErrorType.TYPE_INVALID, ErrorType.INVALID}


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: `path` is the dotted path inside the value; "" for problems without one."""

    type: ErrorType
    path: str
    text: str
    value: Any = ""
    limit: int = 0
    allowed: tuple[Any, ...] = ()
    located: bool = True
    """Whether the field error names the path; some only say it in their text."""

    def field_error(self, base: str) -> FieldError:
        """As a field error of an object whose field `base` was validated; "" for the whole object."""
        where = _join(base, self.path.removeprefix(".") if self.located else "")
        if self.type is ErrorType.REQUIRED:
            return required(where)
        if self.type is ErrorType.TOO_LONG:
            return too_long(where, self.limit)
        if self.type is ErrorType.TOO_MANY:
            return too_many(where, self.value, self.limit)
        if self.type is ErrorType.NOT_SUPPORTED:
            return not_supported(where, self.value, self.allowed)
        value = "" if self.value is None else self.value
        return FieldError(self.type, where, f"Invalid value: {shown(value)}: {self.text}")


def _join(base: str, path: str) -> str:
    """A whole object has no name: Go shows it as <nil>."""
    return f"{base}.{path}" if base and path else base or path or "<nil>"


def invalid(path: str, value: Any, detail: str) -> FieldError:
    """'Invalid value' of a field of a custom resource; MISSING leaves the value out."""
    head = "Invalid value" if value is MISSING else f"Invalid value: {shown(value)}"
    return FieldError(ErrorType.INVALID, path or "<nil>", f"{head}: {detail}")


def not_supported(path: str, value: Any, allowed: tuple[Any, ...]) -> FieldError:
    """An enum's refusal: values that are no strings show as JSON."""
    texts = ", ".join(shown(one if isinstance(one, str) else shown(one)) for one in allowed)
    return FieldError(
        ErrorType.NOT_SUPPORTED, path or "<nil>", f"Unsupported value: {shown(value)}: supported values: {texts}"
    )


class Result:
    """Problems in the order in which they were found, each text once, and the score."""

    __slots__ = ("problems", "score")

    def __init__(self, *problems: Problem, score: int = 0) -> None:
        self.problems = list(problems)
        self.score = score

    @property
    def valid(self) -> bool:
        return not self.problems

    def add(self, problem: Problem) -> None:
        if all(one.text != problem.text for one in self.problems):
            self.problems.append(problem)

    def merge(self, other: Result) -> None:
        for problem in other.problems:
            self.add(problem)
        self.score += other.score

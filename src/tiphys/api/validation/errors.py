"""Collecting field errors, and the answer that they become.

Every validating function takes an `Errors` first and adds to it, with the dotted path of the struct that it looks
at: no lists are built and joined on the way of a valid object.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import (
    ErrorType,
    FieldError,
    Kind,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    quote,
    required,
    too_long,
    too_many,
)
from tiphys.base.errors import Invalid

NEGATIVE = "must be greater than or equal to 0"
IMMUTABLE = "field is immutable"


class Errors(list[FieldError]):
    """A list of field errors with one method a sort of error."""

    def required(self, path: str, detail: str = "") -> None:
        self.append(required(path, detail))

    def invalid(self, path: str, value: Any, detail: str) -> None:
        self.append(invalid(path, value, detail))

    def unsupported(self, path: str, value: Any, allowed: Sequence[str]) -> None:
        self.append(not_supported(path, value, allowed))

    def forbidden(self, path: str, detail: str) -> None:
        self.append(forbidden(path, detail))

    def duplicate(self, path: str, value: Any, detail: str = "") -> None:
        error = duplicate(path, value)
        self.append(FieldError(error.type, path, f"{error.message}: {detail}") if detail else error)

    def not_found(self, path: str, value: Any, detail: str = "") -> None:
        error = not_found(path, value)
        self.append(FieldError(error.type, path, f"{error.message}: {detail}") if detail else error)

    def too_long(self, path: str, limit: int) -> None:
        self.append(too_long(path, limit))

    def too_many(self, path: str, count: int, limit: int) -> None:
        self.append(too_many(path, count, limit))

    def internal(self, path: str, detail: str) -> None:
        self.append(FieldError(ErrorType.INTERNAL, path, f"Internal error: {detail}"))

    def each(self, path: str, value: Any, messages: Iterable[str]) -> None:
        """An 'Invalid value' for each message that a check of `value` gave."""
        for message in messages:
            self.append(invalid(path, value, message))

    def non_empty(self, path: str, value: Any, detail: str = "") -> bool:
        """Whether `value` is there; a 'Required value' if not."""
        if value:
            return True
        self.append(required(path, detail))
        return False

    def fields(self, path: str, struct: Mapping[str, Any], *names: str) -> None:
        """All of these fields of `struct` must be there and not empty."""
        for name in names:
            if not struct.get(name):
                self.append(required(f"{path}.{name}"))

    def non_negative(self, path: str, value: int | None) -> None:
        if value is not None and value < 0:
            self.append(invalid(path, value, NEGATIVE))

    def positive(self, path: str, value: int) -> None:
        if value <= 0:
            self.append(invalid(path, value, "must be greater than zero"))

    def within(self, path: str, value: int, low: int, high: int) -> None:
        if not low <= value <= high:
            self.append(invalid(path, value, f"must be between {low} and {high}, inclusive"))

    def one_of(self, path: str, value: Any, allowed: Sequence[str]) -> None:
        """An optional enum: absent is well."""
        if value is not None and value not in allowed:
            self.append(not_supported(path, value, allowed))

    def enum(self, path: str, value: Any, allowed: Sequence[str], detail: str = "") -> None:
        """A required enum: absent or empty is a 'Required value'."""
        if not value:
            self.append(required(path, detail))
        elif value not in allowed:
            self.append(not_supported(path, value, allowed))

    def immutable(self, path: str, new: Any, old: Any, detail: str = IMMUTABLE) -> None:
        if (new or None) != (old or None):
            self.append(invalid(path, new, detail))

    def forbid_fields(self, path: str, struct: Mapping[str, Any], names: Container[str], detail: str) -> None:
        """None of these fields may be set."""
        for name, value in struct.items():
            if name in names and value is not None:
                self.append(forbidden(f"{path}.{name}", detail))


def refusal(kind: Kind, name: str, errors: Sequence[FieldError]) -> Invalid:
    """The 422 for an object of `kind` called `name`."""
    group = kind.group if kind.error_group is None else kind.error_group
    return invalid_error(kind.kind, group, name, errors)


def invalid_error(kind: str, group: str, name: str, errors: Sequence[FieldError]) -> Invalid:
    """The 422 for these errors: each message once in the text, every one a cause (meta/v1 Status)."""
    texts = list(dict.fromkeys(map(str, errors)))
    text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    qualified = f"{kind}.{group}" if group else kind
    details: dict[str, Any] = {"name": name} if name else {}
    if group:
        details["group"] = group
    details["kind"] = kind
    if errors:
        details["causes"] = [error.cause() for error in errors]
    message = f"{qualified} {quote(name)} is invalid"
    return Invalid(f"{message}: {text}" if errors else message, details=details)

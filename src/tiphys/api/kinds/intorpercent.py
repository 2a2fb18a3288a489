"""Numbers of pods that may also be a share of them: maxSurge, maxUnavailable, minAvailable."""

from __future__ import annotations

from tiphys.api.validation.errors import NEGATIVE, Errors
from tiphys.api.validation.names import percent

IntOrPercent = int | str


def number(value: IntOrPercent | None) -> int:
    """The number, or the percentage without its sign; 0 for neither."""
    if isinstance(value, str):
        digits = value.removesuffix("%")
        return int(digits) if not percent(value) or digits.isdigit() else 0
    return value or 0


def non_negative(errors: Errors, path: str, value: IntOrPercent | None) -> None:
    if isinstance(value, str):
        errors.each(path, value, percent(value))
    elif (value or 0) < 0:
        errors.invalid(path, value, NEGATIVE)


def at_most_all(errors: Errors, path: str, value: IntOrPercent | None) -> None:
    if isinstance(value, str) and not percent(value) and number(value) > 100:
        errors.invalid(path, value, "must not be greater than 100%")

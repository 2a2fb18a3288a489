"""Paths in a file system, as fields of pods name them."""

from __future__ import annotations

from tiphys.api.validation.errors import Errors


def no_backsteps(errors: Errors, path: str, value: str) -> None:
    if ".." in value and ".." in value.split("/"):
        errors.invalid(path, value, "must not contain '..'")


def local_descending(errors: Errors, path: str, value: str) -> None:
    """A relative path that stays below where it starts."""
    if value.startswith("/"):
        errors.invalid(path, value, "must be a relative path")
    no_backsteps(errors, path, value)


def local_non_reserved(errors: Errors, path: str, value: str) -> None:
    """The same, and not beginning with two dots: those names are the atomic writer's own."""
    local_descending(errors, path, value)
    if value.startswith("..") and not value.startswith("../"):
        errors.invalid(path, value, "must not start with '..'")


def file_mode(errors: Errors, path: str, value: int | None) -> None:
    if value is not None and not 0 <= value <= 0o777:
        errors.invalid(path, value, "must be a number between 0 and 0777 (octal), both inclusive")

"""Paths: in a file system, as fields of pods name them, and after a domain."""

from __future__ import annotations

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import HTTP_PATH_ERROR, dns_subdomain, http_path


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


def domain_path(errors: Errors, path: str, value: str) -> None:
    """A domain, a slash and a path: example.com/foo."""
    if not errors.non_empty(path, value):
        return
    host, _, tail = value.partition("/")
    if not host or not tail:
        errors.invalid(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")')
        return
    errors.each(path, host, dns_subdomain(host))
    if not http_path(tail):
        errors.invalid(path, tail, HTTP_PATH_ERROR)

"""Webhooks: where they are, and names that their owners give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns_subdomain, port_number

Struct = Mapping[str, Any]

_FORM = "; desired format: https://host[/path]"


def qualified_domain(errors: Errors, path: str, name: str) -> None:
    """A domain name of three labels or more."""
    if not errors.non_empty(path, name):
        return
    if found := dns_subdomain(name):
        errors.invalid(path, name, ",".join(found))
    elif name.count(".") < 2:
        errors.invalid(path, name, "should be a domain with at least three segments separated by dots")


def client_config(errors: Errors, path: str, config: Struct) -> None:
    """Either a URL or a Service."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        errors.required(path, "exactly one of url or service is required")
    elif url is not None:
        webhook_url(errors, f"{path}.url", url)
    elif service is not None:
        webhook_service(errors, f"{path}.service", service)


def webhook_url(errors: Errors, path: str, url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as problem:
        errors.required(path, f'url must be a valid URL: parse "{url}": {problem}{_FORM}')
        return
    if parts.scheme != "https":
        errors.invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}")
    user, at, host = parts.netloc.rpartition("@")
    if not host:
        errors.invalid(path, "", f"host must be specified{_FORM}")
    if at:
        errors.invalid(path, user, "user information is not permitted in the URL")
    if parts.fragment:
        errors.invalid(path, parts.fragment, "fragments are not permitted in the URL")
    if parts.query:
        errors.invalid(path, parts.query, "query parameters are not permitted in the URL")


def webhook_service(errors: Errors, path: str, service: Struct) -> None:
    port = service.get("port") or 0
    # Upstream hands over the two in the wrong order: a missing namespace is said to be a missing name.
    errors.non_empty(f"{path}.name", service.get("namespace"))
    errors.non_empty(f"{path}.namespace", service.get("name"))
    if found := port_number(port):
        errors.invalid(f"{path}.port", port, f"port is not valid: {', '.join(found)}")
    if (where := service.get("path")) not in (None, "", "/"):
        _service_path(errors, f"{path}.path", where)


def _service_path(errors: Errors, path: str, value: str) -> None:
    if value == "//":
        errors.invalid(path, value, "segment[0] may not be empty")
        return
    if not value.startswith("/"):
        errors.invalid(path, value, "must start with a '/'")
    for i, step in enumerate(value[1:].removesuffix("/").split("/")):
        if not step:
            errors.invalid(path, value, f"segment[{i}] may not be empty")
            continue
        errors.each(path, value, (f"segment[{i}]: {message}" for message in dns_subdomain(step)))

"""Probes and lifecycle hooks: one handler each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import http_header, port_name

Struct = Mapping[str, Any]

_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def port(errors: Errors, path: str, value: int | str | None) -> None:
    """A port by its number or by its name."""
    if isinstance(value, str):
        errors.each(path, value, port_name(value))
    else:
        errors.within(path, value or 0, 1, 65535)


def _http_get(errors: Errors, path: str, action: Struct) -> None:
    errors.fields(path, action, "path")
    port(errors, f"{path}.port", action.get("port"))
    errors.one_of(f"{path}.scheme", action.get("scheme", ""), ("HTTP", "HTTPS"))
    for header in action.get("httpHeaders") or ():
        name = header.get("name", "")
        errors.each(f"{path}.httpHeaders", name, http_header(name))


def _handler(errors: Errors, path: str, handler: Struct, kinds: tuple[str, ...], grace: int | None) -> None:
    found = [kind for kind in kinds if handler.get(kind) is not None]
    if not found:
        errors.required(path, "must specify a handler type")
        return
    kind, action = found[0], handler[found[0]]
    if kind == "exec":
        errors.fields(f"{path}.exec", action, "command")
    elif kind == "httpGet":
        _http_get(errors, f"{path}.httpGet", action)
    elif kind == "sleep":
        seconds = action.get("seconds") or 0
        if grace is not None and not 0 <= seconds <= grace:
            detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            errors.invalid(f"{path}.sleep", seconds, detail)
    else:
        port(errors, f"{path}.{kind}.port", action.get("port"))
    for other in found[1:]:
        errors.forbidden(f"{path}.{other}", "may not specify more than 1 handler type")


def _probe(errors: Errors, path: str, probe: Struct, grace: int | None) -> None:
    _handler(errors, path, probe, _PROBE_HANDLERS, grace)
    for name in _NUMBERS:
        value = probe.get(name)
        if value is not None and value < 0:
            errors.non_negative(f"{path}.{name}", value)
    seconds = probe.get("terminationGracePeriodSeconds")
    if seconds is not None and seconds <= 0:
        errors.invalid(f"{path}.terminationGracePeriodSeconds", seconds, "must be greater than 0")


def probes(errors: Errors, path: str, container: Struct, grace: int | None) -> None:
    """The three probes of a container; `grace` is the pod's termination grace in seconds."""
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if (probe := container.get(name)) is None:
            continue
        where = f"{path}.{name}"
        _probe(errors, where, probe, grace)
        if name == "readinessProbe":
            if (seconds := probe.get("terminationGracePeriodSeconds")) is not None:
                errors.invalid(f"{where}.terminationGracePeriodSeconds", seconds, "must not be set for readinessProbes")
        elif (threshold := probe.get("successThreshold", 0)) != 1:
            errors.invalid(f"{where}.successThreshold", threshold, "must be 1")


def lifecycle(errors: Errors, path: str, hooks: Struct, grace: int | None, system: str) -> None:
    for name in ("postStart", "preStop"):
        if (hook := hooks.get(name)) is not None:
            _handler(errors, f"{path}.{name}", hook, _HOOK_HANDLERS, grace)
    if hooks.get("stopSignal") is not None and not system:
        errors.forbidden(f"{path}.stopSignal", "may not be set for containers with empty `spec.os.name`")

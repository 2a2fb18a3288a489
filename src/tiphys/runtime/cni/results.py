"""What plugins answer: results and errors (CNI spec 1.1, "Result types"). Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tiphys.runtime.cni.conf import CniError


def parse(plugin: str, output: bytes) -> dict[str, Any]:
    """The result of an ADD. Raises CniError."""
    try:
        found = json.loads(output)
    except ValueError as error:
        raise CniError(f'plugin type="{plugin}" failed (add): its result cannot be read: {error}') from error
    if not isinstance(found, dict):
        raise CniError(f'plugin type="{plugin}" failed (add): its result is not an object')
    return found


def failure(plugin: str, command: str, status: int, output: bytes, errors: bytes) -> CniError:
    """The error of a plugin that ended with `status`, in its own words where it has some."""
    try:
        told = json.loads(output)
        text = str(told["msg"]) + (f"; {told['details']}" if told.get("details") else "")
    except (ValueError, KeyError, TypeError):
        said = errors.decode(errors="replace").strip() or output.decode(errors="replace").strip()
        text = f"netplugin failed: {said[-1000:]!r}" if said else f"netplugin failed with no error message: {status}"
    return CniError(f'plugin type="{plugin}" failed ({command.lower()}): {text}')


def addresses(result: Mapping[str, Any], interface: str) -> tuple[str, ...]:
    """The sandbox's own: those of `interface` inside it, or of no interface in particular."""
    interfaces = result.get("interfaces") or []
    found: list[str] = []
    for each in result.get("ips") or ():
        number = each.get("interface")
        if isinstance(number, int) and 0 <= number < len(interfaces):
            device = interfaces[number]
            if not device.get("sandbox") or device.get("name") != interface:
                continue
        found.append(str(each["address"]).partition("/")[0])
    return tuple(found)

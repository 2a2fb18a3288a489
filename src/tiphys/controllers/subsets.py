"""Subsets of Endpoints in their canonical form: every address once for a port, ports of the same addresses together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Subset = Mapping[str, Any]
Port = tuple[str, int, str, str]
"""Name, number, protocol, application protocol."""
_FIELDS = ("name", "port", "protocol", "appProtocol")
_NO_PORT: Port = ("", -1, "", "")
Address = tuple[str, str]
"""The IP, and the uid of what it belongs to: some share the address of their node."""


def repack(subsets: Iterable[Subset]) -> list[dict[str, Any]]:
    """The same endpoints in canonical form. An address that is ready and not ready for one port is not ready."""
    known: dict[Address, Mapping[str, Any]] = {}
    by_port: dict[Port, dict[Address, bool]] = {}
    for subset in subsets:
        ports = [_port(each) for each in subset.get("ports") or ()] or [_NO_PORT]
        for kind, ready in (("addresses", True), ("notReadyAddresses", False)):
            for each in subset.get(kind) or ():
                key = str(each.get("ip") or ""), str((each.get("targetRef") or {}).get("uid") or "")
                known.setdefault(key, each)
                for port in ports:
                    found = by_port.setdefault(port, {})
                    found[key] = ready and found.get(key, True)
    groups: dict[frozenset[tuple[Address, bool]], list[Port]] = {}
    for port, found in sorted(by_port.items()):
        groups.setdefault(frozenset(found.items()), []).append(port)
    return [_subset(sorted(members), ports, known) for members, ports in groups.items()]


def _port(port: Mapping[str, Any]) -> Port:
    return (
        port.get("name") or "",
        int(port.get("port") or 0),
        port.get("protocol") or "TCP",
        port.get("appProtocol") or "",
    )


def _subset(
    members: Iterable[tuple[Address, bool]], ports: Iterable[Port], known: Mapping[Address, Mapping[str, Any]]
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, ready in members:
        out.setdefault("addresses" if ready else "notReadyAddresses", []).append(known[key])
    numbered = [port for port in ports if port != _NO_PORT]
    if numbered:
        out["ports"] = [{key: value for key, value in zip(_FIELDS, port, strict=True) if value} for port in numbered]
    return out

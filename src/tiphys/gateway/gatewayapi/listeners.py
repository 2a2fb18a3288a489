"""A Gateway's listeners: which can be served, and why others cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.client.types import Object
from tiphys.gateway.gatewayapi.conditions import Condition, condition
from tiphys.gateway.gatewayapi.grants import permitted
from tiphys.gateway.plan import SecretKey
from tiphys.gateway.resources import GROUP

_PROTOCOLS = ("HTTP", "HTTPS")
_ROUTE = {"group": GROUP, "kind": "HTTPRoute"}
Usable = Callable[[SecretKey], str]
"""Why a Secret is no certificate; "" when it is."""


@dataclass(slots=True)
class ListenerState:
    """One listener, looked at."""

    spec: Mapping[str, Any]
    problems: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By the condition's type: reason and message."""
    kinds: list[dict[str, str]] = field(default_factory=list)
    secrets: tuple[SecretKey, ...] = ()
    attached: set[str] = field(default_factory=set)
    """Keys of the routes at it."""

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def port(self) -> int:
        return int(self.spec["port"])

    @property
    def host(self) -> str:
        return str(self.spec.get("hostname") or "").lower()

    @property
    def tls(self) -> bool:
        return self.spec.get("protocol") == "HTTPS"

    @property
    def usable(self) -> bool:
        """Whether it is served. Without any usable certificate it cannot be."""
        refused = self.problems.get("ResolvedRefs", ("", ""))[0]
        return "Accepted" not in self.problems and "Conflicted" not in self.problems and (
            not refused or (refused == "InvalidRouteKinds" and bool(self.kinds)) or bool(self.secrets)
        )  # fmt: skip

    def status(self, gateway: Object) -> dict[str, Any]:
        """Without the moments of transitions."""
        return {
            "name": self.name,
            "supportedKinds": self.kinds,
            "attachedRoutes": len(self.attached),
            "conditions": self._conditions(gateway),
        }

    def _conditions(self, gateway: Object) -> list[Condition]:
        accepted = self.problems.get("Accepted")
        conflict = self.problems.get("Conflicted")
        refs = self.problems.get("ResolvedRefs")
        good = ("Accepted", "the listener is valid")
        made = [
            condition("Accepted", not (accepted or conflict), *(accepted or conflict or good), gateway),
            condition(
                "Conflicted", bool(conflict), *(conflict or ("NoConflicts", "no other listener is alike")), gateway
            ),
            condition("ResolvedRefs", not refs, *(refs or ("ResolvedRefs", "all references are resolved")), gateway),
        ]
        if self.usable:
            made.append(condition("Programmed", True, "Programmed", "the listener serves", gateway))
        else:
            made.append(condition("Programmed", False, "Invalid", "see the other conditions", gateway))
        return made


def look(gateway: Object, grants: Sequence[Object], unusable: Usable) -> list[ListenerState]:
    """All listeners of a Gateway."""
    states = [ListenerState(one) for one in (gateway.get("spec") or {}).get("listeners") or ()]
    for state in states:
        _protocol(state)
        _kinds(state)
        if state.tls:
            _certificates(state, gateway, grants, unusable)
    _conflicts(states)
    return states


def _protocol(state: ListenerState) -> None:
    protocol = state.spec.get("protocol")
    if protocol not in _PROTOCOLS:
        state.problems["Accepted"] = "UnsupportedProtocol", f"protocol {protocol} is not supported; HTTP and HTTPS are"


def _kinds(state: ListenerState) -> None:
    wanted = (state.spec.get("allowedRoutes") or {}).get("kinds")
    if not wanted:
        state.kinds = [dict(_ROUTE)] if state.spec.get("protocol") in _PROTOCOLS else []
        return
    state.kinds = [dict(_ROUTE) for one in wanted if _is_http_route(one)][:1]
    other = [str(one.get("kind")) for one in wanted if not _is_http_route(one)]
    if other:
        state.problems["ResolvedRefs"] = "InvalidRouteKinds", f"routes of kind {', '.join(other)} are not supported"


def _is_http_route(kind: Mapping[str, Any]) -> bool:
    return kind.get("group", GROUP) == GROUP and kind.get("kind") == "HTTPRoute"


def _certificates(state: ListenerState, gateway: Object, grants: Sequence[Object], unusable: Usable) -> None:
    namespace = gateway["metadata"]["namespace"]
    found = []
    refs = (state.spec.get("tls") or {}).get("certificateRefs") or ()
    if not refs:
        state.problems["ResolvedRefs"] = "InvalidCertificateRef", "tls.certificateRefs names no certificate"
    for ref in refs:
        key = ref.get("namespace") or namespace, ref["name"]
        text = f"secret {key[0]}/{key[1]}"
        if (ref.get("group") or "", ref.get("kind", "Secret")) != ("", "Secret"):
            problem = "InvalidCertificateRef", f"{ref.get('kind')} {ref['name']} is no Secret"
        elif not permitted("Gateway", namespace, ("", "Secret", *key), grants):
            problem = "RefNotPermitted", f"{text} may not be used here: no ReferenceGrant allows it"
        elif why := unusable(key):
            problem = "InvalidCertificateRef", f"{text}: {why}"
        else:
            found.append(key)
            continue
        state.problems["ResolvedRefs"] = problem
    state.secrets = tuple(found)


def _conflicts(states: Sequence[ListenerState]) -> None:
    """Two of the same port and host, or of two protocols at one port: none of them is served."""
    for state in states:
        same_port = [one for one in states if one is not state and one.port == state.port]
        if any(one.spec.get("protocol") != state.spec.get("protocol") for one in same_port):
            state.problems["Conflicted"] = "ProtocolConflict", "another listener has this port with another protocol"
        elif any(one.host == state.host for one in same_port):
            state.problems["Conflicted"] = "HostnameConflict", "another listener has this port and hostname"

"""Which listeners an HTTPRoute attaches to, and for which hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tiphys.api.selectors import from_object
from tiphys.client.types import Object
from tiphys.gateway.gatewayapi.listeners import ListenerState
from tiphys.gateway.resources import GROUP

Namespaces = Callable[[str], Object | None]
Attachment = tuple[ListenerState, tuple[str, ...]]
"""A listener, and the hosts for which a route is at it; "" is any."""


class Refused(Exception):
    """Why a parent does not take a route; `reason` is the condition's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def is_gateway(ref: Mapping[str, Any]) -> bool:
    return bool(ref.get("group", GROUP) == GROUP and ref.get("kind", "Gateway") == "Gateway")


def attach(
    route: Object, ref: Mapping[str, Any], gateway: Object, states: Sequence[ListenerState], namespaces: Namespaces
) -> list[Attachment]:
    """Raises Refused."""
    chosen = [state for state in states if _named(ref, state)]
    if not chosen:
        raise Refused("NoMatchingParent", "the Gateway has no listener of that name and port")
    namespace = route["metadata"]["namespace"]
    allowed = [state for state in chosen if _allowed(state, gateway, namespace, namespaces)]
    if not allowed:
        raise Refused("NotAllowedByListeners", "no listener allows this route, by its namespace and kind")
    hostnames = (route.get("spec") or {}).get("hostnames") or ()
    found = [(state, intersection(state.host, hostnames)) for state in allowed]
    found = [(state, hosts) for state, hosts in found if hosts]
    if not found:
        raise Refused("NoMatchingListenerHostname", "no hostname of the route is one of a listener")
    return found


def _named(ref: Mapping[str, Any], state: ListenerState) -> bool:
    return bool(ref.get("sectionName", state.name) == state.name and ref.get("port", state.port) == state.port)


def _allowed(state: ListenerState, gateway: Object, namespace: str, namespaces: Namespaces) -> bool:
    if not state.kinds:
        return False
    wanted = (state.spec.get("allowedRoutes") or {}).get("namespaces") or {}
    source = wanted.get("from", "Same")
    if source == "All":
        return True
    if source == "Selector":
        found = namespaces(namespace)
        labels = (found["metadata"].get("labels") or {}) if found is not None else {}
        return found is not None and _selects(wanted.get("selector"), labels)
    return bool(namespace == gateway["metadata"]["namespace"])


def _selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """One that is invalid, which the schema does not see, selects nothing."""
    try:
        return from_object(selector).matches(labels)
    except ValueError:
        return False


def intersection(listener: str, hostnames: Iterable[str]) -> tuple[str, ...]:
    """The hosts that both a listener and a route are for, the more specific of two that meet."""
    hostnames = [one.lower() for one in hostnames]
    if not hostnames:
        return (listener,)
    if not listener:
        return tuple(dict.fromkeys(hostnames))
    both = (_meet(listener, host) for host in hostnames)
    return tuple(dict.fromkeys(host for host in both if host is not None))


def _meet(one: str, other: str) -> str | None:
    if one == other:
        return one
    for wide, narrow in ((one, other), (other, one)):
        if wide.startswith("*.") and narrow.removeprefix("*").endswith(wide[1:]):
            return narrow
    return None

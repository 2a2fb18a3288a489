"""All Gateways of ours with their routes: fronts, Services, statuses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from tiphys.client.types import Object
from tiphys.gateway.definitions import CONTROLLER
from tiphys.gateway.gatewayapi import attaching, classes
from tiphys.gateway.gatewayapi.attaching import Namespaces
from tiphys.gateway.gatewayapi.conditions import Condition, condition, conditions_of, stamped
from tiphys.gateway.gatewayapi.listeners import ListenerState, Usable, look
from tiphys.gateway.gatewayapi.routes import RouteRules, Services, compile_route
from tiphys.gateway.ingress.rules import age, alone
from tiphys.gateway.matching import by_precedence
from tiphys.gateway.model import Listener, Route
from tiphys.gateway.plan import FrontPlan, SecretKey, ServicePlan, StatusPlan
from tiphys.gateway.resources import GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES

_LONGEST = 63
_NAME_LABEL = "gateway.networking.k8s.io/gateway-name"
_CLASS_LABEL = "gateway.networking.k8s.io/gateway-class-name"


@dataclass(slots=True)
class GatewayState:
    """One Gateway, looked at."""

    obj: Object
    listeners: list[ListenerState]
    routes: dict[str, dict[str, list[Route]]] = field(default_factory=dict)
    """By listener and host."""

    @property
    def key(self) -> tuple[str, str]:
        metadata = self.obj["metadata"]
        return metadata["namespace"], metadata["name"]

    @property
    def refused(self) -> tuple[str, str] | None:
        """Why the Gateway as a whole is not served."""
        spec = self.obj.get("spec") or {}
        if (spec.get("infrastructure") or {}).get("parametersRef"):
            return "InvalidParameters", "infrastructure.parametersRef is not supported"
        wanted = [one for one in spec.get("addresses") or () if one.get("value")]
        if any(one.get("type", "IPAddress") != "IPAddress" for one in wanted) or len(wanted) > 1:
            return "UnsupportedAddress", "one address of type IPAddress can be asked for"
        return None

    @property
    def served(self) -> list[ListenerState]:
        return [] if self.refused else [state for state in self.listeners if state.usable]

    def attach(self, state: ListenerState, hosts: Iterable[str], route: str, rules: Sequence[Route]) -> None:
        state.attached.add(route)
        by_host = self.routes.setdefault(state.name, {})
        for host in hosts:
            by_host.setdefault(host, []).extend(rules)


@dataclass(slots=True)
class Inputs:
    """What is looked at."""

    classes: Sequence[Object]
    gateways: Sequence[Object]
    routes: Sequence[Object]
    grants: Sequence[Object]
    services: Services
    namespaces: Namespaces
    unusable: Usable
    now: str


@dataclass(slots=True)
class Outcome:
    """What follows."""

    fronts: dict[tuple[str, int], FrontPlan] = field(default_factory=dict)
    services: dict[str, ServicePlan] = field(default_factory=dict)
    statuses: list[StatusPlan] = field(default_factory=list)
    problems: list[tuple[Object, str, str]] = field(default_factory=list)
    """(object, reason, message), for events."""
    secrets: set[SecretKey] = field(default_factory=set)
    """All that listeners name, usable or not."""


def compile_gateways(inputs: Inputs) -> Outcome:
    """Everything of the Gateway API."""
    outcome = Outcome()
    ours = classes.accepted_names(inputs.classes)
    states = {}

    def unusable(key: SecretKey) -> str:
        outcome.secrets.add(key)
        return inputs.unusable(key)

    for gateway in sorted(inputs.gateways, key=age):
        if gateway["spec"].get("gatewayClassName") in ours and not gateway["metadata"].get("deletionTimestamp"):
            with alone(gateway, outcome.problems):
                state = GatewayState(gateway, look(gateway, inputs.grants, unusable))
                states[state.key] = state
    for route in inputs.routes:
        with alone(route, outcome.problems):
            outcome.statuses += _route(route, states, inputs)
    for state in states.values():
        _fronts(state, outcome)
        outcome.statuses += _gateway_status(state, inputs, outcome)
    for one in inputs.classes:
        if classes.is_ours(one):
            outcome.statuses += _changed(StatusPlan(GATEWAY_CLASSES, one, classes.status(one, inputs.now)))
    return outcome


def _changed(plan: StatusPlan) -> list[StatusPlan]:
    have = plan.obj.get("status") or {}
    return [] if all(have.get(name) == value for name, value in plan.status.items()) else [plan]


# Routes


def _route(route: Object, states: Mapping[tuple[str, str], GatewayState], inputs: Inputs) -> list[StatusPlan]:
    """Attach a route to its parents of ours; returns its status where that has to change."""
    namespace = route["metadata"]["namespace"]
    rules: RouteRules | None = None
    parents = []
    for ref in (route.get("spec") or {}).get("parentRefs") or ():
        state = states.get((ref.get("namespace") or namespace, ref["name"])) if attaching.is_gateway(ref) else None
        if state is None:
            continue
        rules = rules or compile_route(route, inputs.services, inputs.grants)
        parents.append((ref, _attached(route, ref, state, rules, inputs)))
    have = (route.get("status") or {}).get("parents") or []
    if not parents and all(one.get("controllerName") != CONTROLLER for one in have):
        return []
    return _changed(StatusPlan(HTTP_ROUTES, route, {"parents": _parents(parents, have, inputs.now)}))


def _attached(
    route: Object, ref: Mapping[str, Any], state: GatewayState, rules: RouteRules, inputs: Inputs
) -> list[Condition]:
    name = f"{route['metadata']['namespace']}/{route['metadata']['name']}"
    accepted = condition("Accepted", True, "Accepted", "the route is attached", route)
    try:
        found = attaching.attach(route, ref, state.obj, state.listeners, inputs.namespaces)
        if rules.refused:
            raise attaching.Refused("UnsupportedValue", rules.refused)
    except attaching.Refused as error:
        accepted = condition("Accepted", False, error.reason, str(error), route)
    else:
        for listener, hosts in found:
            state.attach(listener, hosts, name, rules.routes)
    reason, message = rules.refs
    resolved = condition(
        "ResolvedRefs", not reason, reason or "ResolvedRefs", message or "all references are resolved", route
    )
    return [accepted, resolved]


def _parents(
    parents: Sequence[tuple[Mapping[str, Any], list[Condition]]], have: Sequence[Mapping[str, Any]], now: str
) -> list[Mapping[str, Any]]:
    """Ours in the order of the spec; those of other controllers stay."""
    made: list[Mapping[str, Any]] = [one for one in have if one.get("controllerName") != CONTROLLER]
    for ref, conditions in parents:
        old = next(
            (one for one in have if one.get("controllerName") == CONTROLLER and one.get("parentRef") == ref), None
        )
        before = (old or {}).get("conditions") or ()
        made.append(
            {"parentRef": dict(ref), "controllerName": CONTROLLER, "conditions": stamped(conditions, before, now)}
        )
    return made


# Gateways


def service_name(gateway: str) -> str:
    """The name of a Gateway's Service: no longer than one may be."""
    name = f"{gateway}-tiphys".replace(".", "-")
    if len(name) <= _LONGEST and name[0].isalpha() and "." not in gateway:
        return name
    digest = hashlib.sha256(gateway.encode()).hexdigest()[:10]
    return f"gateway-{digest}-{name[:30].strip('-')}"[:_LONGEST].rstrip("-")


def _service(state: GatewayState, ports: Iterable[int]) -> ServicePlan:
    namespace, name = state.key
    spec = state.obj["spec"]
    infrastructure = spec.get("infrastructure") or {}
    labels = dict(infrastructure.get("labels") or {})
    if len(name) <= _LONGEST:
        labels[_NAME_LABEL] = name
    if len(spec["gatewayClassName"]) <= _LONGEST:
        labels[_CLASS_LABEL] = spec["gatewayClassName"]
    return ServicePlan(
        namespace,
        service_name(name),
        {f"port-{port}": port for port in ports},
        owner={"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": state.obj["metadata"]},
        labels=labels,
        annotations=infrastructure.get("annotations") or {},
        address=next((one["value"] for one in spec.get("addresses") or () if one.get("value")), ""),
    )


def _fronts(state: GatewayState, outcome: Outcome) -> None:
    """One front a port."""
    by_port: dict[int, list[ListenerState]] = {}
    for listener in state.served:
        by_port.setdefault(listener.port, []).append(listener)
    if not by_port:
        return
    service = _service(state, sorted(by_port))
    outcome.services[service.key] = service
    for port, listeners in by_port.items():
        outcome.fronts[service.key, port] = front(state, port, listeners)


def front(state: GatewayState, port: int, listeners: Sequence[ListenerState]) -> FrontPlan:
    """The listeners of one port; of several certificates of a listener the first is for all other names."""
    certificates: dict[str, SecretKey] = {}
    nameless: list[SecretKey] = []
    for listener in listeners:
        for key in listener.secrets[:1]:
            certificates.setdefault(listener.host, key)
        nameless += listener.secrets[1:]
    table = tuple(
        Listener(
            port,
            listener.host,
            listener.tls,
            {host: by_precedence(routes) for host, routes in state.routes.get(listener.name, {}).items()},
        )
        for listener in listeners
    )
    return FrontPlan(port, listeners[0].tls, (table,), certificates, tuple(nameless))


def _gateway_status(state: GatewayState, inputs: Inputs, outcome: Outcome) -> list[StatusPlan]:
    gateway = state.obj
    old = gateway.get("status") or {}
    namespace, name = state.key
    addresses = _addresses(inputs.services(namespace, service_name(name))) if state.served else []
    before = {one.get("name"): one.get("conditions") or () for one in old.get("listeners") or ()}
    listeners = []
    for one in state.listeners:
        made = one.status(gateway)
        made["conditions"] = stamped(made["conditions"], before.get(one.name, ()), inputs.now)
        listeners.append(made)
    conditions = stamped(_conditions(state, addresses), conditions_of(gateway), inputs.now)
    status: dict[str, Any] = {"conditions": conditions, "listeners": listeners}
    status["addresses"] = addresses or None
    return _changed(StatusPlan(GATEWAYS, gateway, status))


def _addresses(service: Object | None) -> list[dict[str, str]]:
    ingress = (((service or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [{"type": "IPAddress", "value": one["ip"]} for one in ingress if one.get("ip")]


def _conditions(state: GatewayState, addresses: Sequence[Mapping[str, str]]) -> list[Condition]:
    gateway = state.obj
    if state.refused:
        reason, message = state.refused
        return [
            condition("Accepted", False, reason, message, gateway),
            condition("Programmed", False, "Invalid", "the Gateway is not accepted", gateway),
        ]
    broken = [one.name for one in state.listeners if not one.usable]
    text = f"listeners that cannot be served: {', '.join(broken)}" if broken else "all listeners are valid"
    good = len(broken) < len(state.listeners)
    accepted = condition("Accepted", good, "ListenersNotValid" if broken else "Accepted", text, gateway)
    return [accepted, _programmed(state, addresses, good=good)]


def _programmed(state: GatewayState, addresses: Sequence[Mapping[str, str]], *, good: bool) -> Condition:
    wanted = [one["value"] for one in state.obj["spec"].get("addresses") or () if one.get("value")]
    given = {ip_address(one["value"]) for one in addresses}
    if not good:
        outcome = False, "Invalid", "no listener can be served"
    elif not given and wanted:
        outcome = False, "AddressNotUsable", f"{wanted[0]} is not given: it is taken, or not in the pool"
    elif not given:
        outcome = False, "AddressNotAssigned", "no address is assigned yet"
    else:
        outcome = True, "Programmed", "the listeners serve"
    return condition("Programmed", *outcome, state.obj)

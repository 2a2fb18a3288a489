"""Everything that the gateway reads, as one value; and the plan that follows from it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.client.types import Object
from tiphys.gateway import endpoints
from tiphys.gateway.gatewayapi.compile import Inputs, Outcome, compile_gateways
from tiphys.gateway.ingress.classes import class_of, our_classes
from tiphys.gateway.ingress.rules import Compiled, compile_ingresses
from tiphys.gateway.model import BackendKey, Listener, Route
from tiphys.gateway.plan import FrontKey, FrontPlan, Plan, SecretKey, ServicePlan, StatusPlan
from tiphys.gateway.proxy.backends import Address
from tiphys.gateway.resources import INGRESSES

SHARED_PORTS = {80: False, 443: True}
"""The ports of the Service of Ingresses, and whether they speak TLS."""
INGRESS_SERVICE = ServicePlan("kube-system", "ingress", {"http": 80, "https": 443})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Functions look things up, so that nothing is copied."""

    ingresses: Sequence[Object] = ()
    classes: Sequence[Object] = ()
    service: Callable[[str, str], Object | None] = lambda namespace, name: None
    slices: Callable[[str, str], Iterable[Object]] = lambda namespace, name: ()
    secret: Callable[[str, str], Object | None] = lambda namespace, name: None
    gateway_classes: Sequence[Object] = ()
    gateways: Sequence[Object] = ()
    routes: Sequence[Object] = ()
    grants: Sequence[Object] = ()
    namespace: Callable[[str], Object | None] = lambda name: None
    usable: Callable[[SecretKey], str] = lambda key: ""
    """Why a Secret is no certificate; "" when it is."""
    now: str = ""
    """RFC 3339, for conditions that change."""


@dataclass(slots=True)
class Lookups:
    """Notes what was asked for while a plan is made."""

    snapshot: Snapshot
    secrets: set[SecretKey] = field(default_factory=set)

    def secret(self, namespace: str, name: str) -> Object | None:
        self.secrets.add((namespace, name))
        return self.snapshot.secret(namespace, name)

    def why(self, key: BackendKey) -> str:
        """Why a Service's port cannot be a backend; "" when it can."""
        try:
            endpoints.service_port(self.snapshot.service(key[0], key[1]), key[2], key[1])
        except endpoints.NoBackend as error:
            return str(error)
        return ""


def ours(snapshot: Snapshot) -> list[Object]:
    """The Ingresses that this controller serves."""
    classes = our_classes(snapshot.classes)
    return [one for one in snapshot.ingresses if class_of(one) in classes]


def make(snapshot: Snapshot) -> Plan:
    """All of it."""
    lookups = Lookups(snapshot)
    ingresses = ours(snapshot)
    compiled = compile_ingresses(ingresses, lookups.secret, lookups.why)
    lookups.secrets.update(compiled.certificates.values(), compiled.nameless)
    gateways = compile_gateways(_inputs(snapshot))
    lookups.secrets.update(gateways.secrets)
    fronts = dict(gateways.fronts)
    services = dict(gateways.services)
    shared = _shared_fronts(compiled, gateways)
    if ingresses or any(port in SHARED_PORTS for _, port in gateways.fronts):
        services[INGRESS_SERVICE.key] = INGRESS_SERVICE
        fronts.update(shared)
    keys = _backends(fronts.values())
    return Plan(
        fronts,
        services,
        (*_ingress_statuses(snapshot, ingresses), *gateways.statuses),
        (*compiled.problems, *gateways.problems),
        keys,
        resolve(snapshot, keys),
        frozenset(lookups.secrets),
    )


def _inputs(snapshot: Snapshot) -> Inputs:
    return Inputs(
        snapshot.gateway_classes,
        snapshot.gateways,
        snapshot.routes,
        snapshot.grants,
        snapshot.service,
        snapshot.namespace,
        snapshot.usable,
        snapshot.now,
    )


def _shared_fronts(compiled: Compiled, gateways: Outcome) -> Mapping[FrontKey, FrontPlan]:
    """The ports of the Service of Ingresses. Requests that no Ingress takes are asked of the Gateways' listeners at the
    same ports, the oldest Gateway first: so published ports lead to them too."""
    routes = compiled.sorted()
    made: dict[FrontKey, FrontPlan] = {}
    for port, tls in SHARED_PORTS.items():
        others = [front for (_, number), front in gateways.fronts.items() if number == port and front.tls is tls]
        certificates = dict(compiled.certificates)
        for front in others:
            for host, secret in front.certificates.items():
                certificates.setdefault(host, secret)
        made[INGRESS_SERVICE.key, port] = FrontPlan(
            port,
            tls,
            (
                (Listener(port, tls=tls, routes=routes, one_label=True),),
                *(table for one in others for table in one.tables),
            ),
            certificates if tls else {},
            (*compiled.nameless, *(secret for one in others for secret in one.nameless)) if tls else (),
        )
    return made


def load_balancer(service: Object | None) -> list[dict[str, str]]:
    """The addresses in a Service's status, as an Ingress' status has them."""
    found = (((service or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [{name: each[name] for name in ("ip", "hostname") if each.get(name)} for each in found]


def _ingress_statuses(snapshot: Snapshot, ingresses: Iterable[Object]) -> Iterable[StatusPlan]:
    wanted = load_balancer(snapshot.service(INGRESS_SERVICE.namespace, INGRESS_SERVICE.name))
    status = {"loadBalancer": {"ingress": wanted} if wanted else {}}
    for ingress in ingresses:
        if ((ingress.get("status") or {}).get("loadBalancer") or {}).get("ingress", []) != wanted:
            yield StatusPlan(INGRESSES, ingress, status)


def _backends(fronts: Iterable[FrontPlan]) -> frozenset[BackendKey]:
    routes = (
        route for front in fronts for table in front.tables for listener in table for some in listener.routes.values()
        for route in some
    )  # fmt: skip
    return frozenset(key for route in routes for key in keys_of(route))


def keys_of(route: Route) -> Iterable[BackendKey]:
    """Every backend that a route names."""
    targets = list(route.targets)
    if route.canary is not None:
        targets += route.canary.targets
    filters = [route.filters, *(target.filters for target in targets)]
    mirrors = [mirror.target for each in filters for mirror in each.mirrors]
    return {target.key for target in (*targets, *mirrors) if target.key is not None}


def resolve(snapshot: Snapshot, keys: Iterable[BackendKey]) -> Mapping[BackendKey, tuple[Address, ...]]:
    """The endpoints of each backend now."""
    found: dict[BackendKey, tuple[Address, ...]] = {}
    for key in keys:
        namespace, name, port = key
        try:
            entry = endpoints.service_port(snapshot.service(namespace, name), port, name)
        except endpoints.NoBackend:
            found[key] = ()
        else:
            found[key] = endpoints.addresses(entry, snapshot.slices(namespace, name))
    return found

"""From API objects to what the tables should hold, one Service at a time. Pure: no kernel, no clock."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tiphys.client.informer import key_of
from tiphys.client.types import Object
from tiphys.proxy.services import facts, layout
from tiphys.proxy.services.config import ProxyConfig
from tiphys.proxy.services.facts import FAMILIES, Family
from tiphys.proxy.services.rules import Rules, compile_service
from tiphys.proxy.services.state import PortState, ServiceState
from tiphys.proxy.services.table import Desired, Touched
from tiphys.proxy.services.topology import Place, usable

log = logging.getLogger(__name__)

ZONE = "topology.kubernetes.io/zone"
_PLACE = ""
"""The owner of what belongs to no Service."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What concerns every Service: where this is, and which addresses mean what."""

    place: Place
    local_pods: tuple[str, ...]
    service_ranges: tuple[str, ...]


def surroundings(config: ProxyConfig, node: Object | None, ranges: Iterable[Object]) -> Surroundings:
    """From the configuration, the node's object and the ServiceCIDRs."""
    meta, spec = (node or {}).get("metadata") or {}, (node or {}).get("spec") or {}
    zone = (meta.get("labels") or {}).get(ZONE) or ""
    pods = config.local_pods or tuple(spec.get("podCIDRs") or ())
    cidrs = {cidr for one in ranges for cidr in (one.get("spec") or {}).get("cidrs") or ()}
    return Surroundings(Place(config.node, zone, config.near), pods, tuple(sorted({*cidrs, *config.service_ranges})))


class Compiler:
    """What the tables should hold, by family, and the state of each Service in them."""

    def __init__(self, config: ProxyConfig) -> None:
        self._config = config
        self.families: tuple[Family, ...] = tuple(FAMILIES[name] for name in config.families)
        self.desired = {family: Desired() for family in self.families}
        self.services: dict[str, ServiceState] = {}

    def put_surroundings(self, around: Surroundings) -> dict[Family, Touched]:
        """Ranges of addresses; the Services have to be put anew where the place changed."""
        named = {
            layout.LOCAL_PODS: around.local_pods,
            layout.NEAR: self._config.near,
            layout.SERVICE_RANGES: around.service_ranges,
        }
        touched = {}
        for family in self.families:
            keys = [(name, cidr) for name, cidrs in named.items() for cidr in facts.ranges(cidrs, family)]
            touched[family] = self.desired[family].put(_PLACE, Rules(elements=dict.fromkeys(keys, "")))
        return touched

    def put(self, key: str, service: Object | None, slices: Sequence[Object], place: Place) -> dict[Family, Touched]:
        """A Service as it is now (None: it has gone), with its slices."""
        states = self._port_states(service, slices, place) if service else []
        rank = (((service or {}).get("metadata") or {}).get("creationTimestamp") or "", key)
        rules = {family: self._rules(family, states, rank, place) for family in self.families}
        self.services.pop(key, None)
        if service and states:
            self.services[key] = _state(service, states, place)
        return {family: self.desired[family].put(key, rules[family]) for family in self.families}

    def _rules(self, family: Family, states: Sequence[PortState], rank: tuple[str, str], place: Place) -> Rules:
        ports = {state.port: state.usable for state in states if state.family == family.name}
        return compile_service(ports, rank, family, self._config, place) if ports else Rules()

    def _port_states(self, service: Object, slices: Sequence[Object], place: Place) -> list[PortState]:
        states = []
        for family in self.families:
            ports = facts.service_ports(service, family)
            endpoints = facts.endpoints_by_port(slices, family) if ports else {}
            for name, port in ports.items():
                all = endpoints.get(name, ())
                states.append(PortState(family.name, port, all, usable(port, all, place)))
        return states


def _state(service: Object, states: Sequence[PortState], place: Place) -> ServiceState:
    spec = service.get("spec") or {}
    checked = spec.get("type") == "LoadBalancer" and facts.external_local(spec)
    ready = {each.address for state in states for each in state.endpoints if each.ready and place.has(each)}
    port = int(spec.get("healthCheckNodePort") or 0) if checked else 0
    return ServiceState(key_of(service), tuple(states), port, len(ready) if checked else 0)

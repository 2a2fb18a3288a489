"""Services and EndpointSlices as what the proxy has to know of them, one address family at a time.

Addresses are written in one way only, and nothing else of an object but names that were checked gets into rules.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import collapse_addresses, ip_network
from socket import AF_INET, AF_INET6, AddressFamily, inet_ntop, inet_pton
from typing import Any, NamedTuple

from tiphys.client.informer import key_of
from tiphys.client.types import Object
from tiphys.proxy.services.config import BALANCING, BALANCINGS

SERVICE_NAME = "kubernetes.io/service-name"
"""The label that says whose an EndpointSlice is."""
_NOT_OURS = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}


@dataclass(frozen=True, slots=True)
class Family:
    """IPv4 or IPv6, in the words of the API and of nft."""

    name: str
    nft: str
    address: str
    """The type of a set's element."""
    version: int
    socket: AddressFamily
    loopback: str

    def join(self, address: str, port: int) -> str:
        return f"[{address}]:{port}" if self.version == 6 else f"{address}:{port}"


IPV4 = Family("IPv4", "ip", "ipv4_addr", 4, AF_INET, "127.0.0.0/8")
IPV6 = Family("IPv6", "ip6", "ipv6_addr", 6, AF_INET6, "::1")
FAMILIES = {family.name: family for family in (IPV4, IPV6)}


class ServicePort(NamedTuple):
    """One port of a Service."""

    service: str
    """namespace/name"""
    name: str
    protocol: str
    cluster_ip: str
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    """Who may use the load balancer; everybody if empty."""
    affinity: int = 0
    """Seconds for which a client stays with its endpoint; 0 without session affinity."""
    external_local: bool = False
    internal_local: bool = False
    balancing: str = ""

    @property
    def external(self) -> bool:
        """Whether it is reached by more than its cluster IP."""
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)

    @property
    def uses_cluster_endpoints(self) -> bool:
        # External traffic that begins on the node goes to all endpoints, whatever the policy.
        return not self.internal_local or self.external

    @property
    def uses_local_endpoints(self) -> bool:
        return self.internal_local or (self.external_local and self.external)


class Endpoint(NamedTuple):
    address: str
    port: int
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""
    for_zones: frozenset[str] = frozenset()
    for_nodes: frozenset[str] = frozenset()

    @property
    def going(self) -> bool:
        """Still serving while it terminates: used when nobody else is there."""
        return self.serving and self.terminating


PortKey = tuple[str, str]
"""A port's name and protocol: what joins ports of Services and of slices."""


def is_proxied(obj: Object) -> bool:
    """Whether a Service or slice is this proxy's, and not another's or headless."""
    labels = obj["metadata"].get("labels") or {}
    return not any(label in labels for label in _NOT_OURS)


def owner_of(endpoint_slice: Object) -> str:
    """The key of the Service of an EndpointSlice; "" without one."""
    meta = endpoint_slice["metadata"]
    name = (meta.get("labels") or {}).get(SERVICE_NAME)
    return f"{meta.get('namespace')}/{name}" if name else ""


def service_ports(service: Object, family: Family) -> dict[PortKey, ServicePort]:
    """The ports of a Service that are to be proxied in the family; none without a cluster IP."""
    spec, key = service.get("spec") or {}, key_of(service)
    cluster_ips = of_family(spec.get("clusterIPs") or (spec.get("clusterIP") or "",), family)
    if not cluster_ips or spec.get("type") == "ExternalName" or not is_proxied(service) or not _is_sound(key):
        return {}
    shared = functools.partial(
        ServicePort,
        service=key,
        cluster_ip=cluster_ips[0],
        external_ips=tuple(of_family(spec.get("externalIPs") or (), family)),
        load_balancer_ips=tuple(of_family(_ingress_ips(service), family)),
        source_ranges=ranges(spec.get("loadBalancerSourceRanges") or (), family),
        affinity=_affinity(spec),
        external_local=external_local(spec),
        internal_local=spec.get("internalTrafficPolicy") == "Local",
        balancing=_balancing(service),
    )
    found = {}
    for port in spec.get("ports") or ():
        name, protocol = port.get("name") or "", _PROTOCOLS.get(port.get("protocol") or "TCP", "")
        if protocol and (not name or _is_sound(name)):
            number, node_port = int(port["port"]), int(port.get("nodePort") or 0)
            found[name, protocol] = shared(name=name, protocol=protocol, port=number, node_port=node_port)
    return found


def _is_sound(name: str) -> bool:
    return all(_NAME.fullmatch(part) for part in name.split("/"))


def external_local(spec: Mapping[str, Any]) -> bool:
    """Whether external traffic of a Service stays on the node to which it comes."""
    kind = spec.get("type") or "ClusterIP"
    accessible = kind in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs"))
    return accessible and spec.get("externalTrafficPolicy") == "Local"


def _affinity(spec: Mapping[str, Any]) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    of_client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(of_client.get("timeoutSeconds") or 10800)


def _balancing(service: Object) -> str:
    wanted = (service["metadata"].get("annotations") or {}).get(BALANCING)
    return wanted if wanted in BALANCINGS else ""


def _ingress_ips(service: Object) -> Iterator[str]:
    """Load balancers' addresses that packets keep (ipMode VIP); others do the whole work themselves (KEP-1860)."""
    status = (service.get("status") or {}).get("loadBalancer") or {}
    for ingress in status.get("ingress") or ():
        if ingress.get("ip") and (ingress.get("ipMode") or "VIP") == "VIP":
            yield ingress["ip"]


def of_family(addresses: Iterable[str], family: Family) -> list[str]:
    """Those of the family, each as it is usually written; what is no address is left out."""
    return [found for text in addresses if (found := _written(text, family))]


def _written(text: str, family: Family) -> str:
    """The address as it is usually written; "" for what is none of the family. Ten times as fast as ipaddress."""
    try:
        return inet_ntop(family.socket, inet_pton(family.socket, text))
    except OSError:
        return ""


def ranges(texts: Iterable[str], family: Family) -> tuple[str, ...]:
    """CIDRs of the family, without overlaps; none if one of them is everything, or if they are no CIDRs."""
    found: list[Any] = []
    for text in texts:
        try:
            network = ip_network(text.strip(), strict=False)
        except ValueError:
            continue
        if network.version == family.version:
            found.append(network)
    collapsed = list(collapse_addresses(found))
    if any(network.prefixlen == 0 for network in collapsed):
        return ()
    return tuple(map(str, collapsed))


def endpoints_by_port(slices: Iterable[Object], family: Family) -> dict[PortKey, tuple[Endpoint, ...]]:
    """The endpoints in a Service's slices, in the order of their addresses."""
    found: dict[PortKey, dict[tuple[str, int], Endpoint]] = {}
    for one in slices:
        if one.get("addressType") != family.name or not is_proxied(one):
            continue
        for port in one.get("ports") or ():
            number, protocol = port.get("port"), _PROTOCOLS.get(port.get("protocol") or "TCP", "")
            if number and protocol:
                into = found.setdefault((port.get("name") or "", protocol), {})
                _collect(into, one.get("endpoints") or (), int(number), family)
    return {key: tuple(of_port[at] for at in sorted(of_port)) for key, of_port in found.items()}


def _collect(
    into: dict[tuple[str, int], Endpoint], endpoints: Collection[Mapping[str, Any]], port: int, family: Family
) -> None:
    for each in endpoints:
        addresses = each.get("addresses") or ()
        if not addresses or not (address := _written(addresses[0], family)):
            continue
        endpoint = _endpoint(each, address, port)
        # An address may be in two slices for a moment, also as that of a pod that ends and of its successor.
        if (address, port) not in into or not endpoint.terminating:
            into[address, port] = endpoint


def _endpoint(each: Mapping[str, Any], address: str, port: int) -> Endpoint:
    conditions, hints = each.get("conditions") or {}, each.get("hints") or {}
    return Endpoint(
        address,
        port,
        ready=conditions.get("ready") is not False,
        serving=conditions.get("serving") is not False,
        terminating=bool(conditions.get("terminating")),
        node=each.get("nodeName") or "",
        for_zones=_names(hints.get("forZones")),
        for_nodes=_names(hints.get("forNodes")),
    )


def _names(hints: Iterable[Mapping[str, str]] | None) -> frozenset[str]:
    return frozenset(each["name"] for each in hints) if hints else frozenset()

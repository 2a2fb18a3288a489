"""The compiler: what a port of a Service and its usable endpoints are in the table.

Chains are never changed. A chain's name has a hash of its rules, so equal names mean equal rules, whichever process
made them: other endpoints are another chain, and an element of a map that leads there, in one transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from tiphys.proxy.services import layout
from tiphys.proxy.services.config import ROUND_ROBIN, ProxyConfig
from tiphys.proxy.services.facts import Endpoint, Family, ServicePort, ranges
from tiphys.proxy.services.topology import Place, Usable

_FEW = 4
"""Endpoints that are chosen by rules instead of by a map."""

_LONGEST = 200
"""Characters of a name."""

ElementKey = tuple[str, str]
"""The name of a map or set, and the key in it."""


@dataclass(slots=True)
class Rules:
    """What an owner wants in the table."""

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Rules by name; those that are led to by others come first."""
    sets: dict[str, str] = field(default_factory=dict)
    elements: dict[ElementKey, str] = field(default_factory=dict)
    """What a map has for the key; "" in sets."""
    rank: tuple[str, str] = ("", "")
    """Of two owners who want the same key, the lower one has it."""


def compile_service(
    ports: Mapping[ServicePort, Usable], rank: tuple[str, str], family: Family, config: ProxyConfig, place: Place
) -> Rules:
    """The rules of a Service."""
    rules = Rules(rank=rank)
    for port, endpoints in ports.items():
        _Port(rules, port, endpoints, family, config, place).compile()
    return rules


class _Port:
    """One port's way into the rules."""

    def __init__(
        self, rules: Rules, port: ServicePort, usable: Usable, family: Family, config: ProxyConfig, place: Place
    ) -> None:
        self.rules, self.port, self.usable, self.family, self.config, self.place = (
            rules, port, usable, family, config, place
        )  # fmt: skip

    def compile(self) -> None:
        port, usable = self.port, self.usable
        for endpoint in usable.reachable if self.config.node else ():
            if self.place.has(endpoint) or not endpoint.node:  # a slice by hand need not say where a pod is
                self._element(layout.HAIRPIN, f"{endpoint.address} . {self._at(endpoint.address, endpoint.port)}")
        cluster = self._policy("cluster", usable.cluster)
        local = self._policy("local", usable.local)
        self._element(layout.CLUSTER_IPS, port.cluster_ip)
        for address in () if self.config.node else (port.cluster_ip, *port.external_ips, *port.load_balancer_ips):
            self._element(layout.FRONTENDS, address)
        inside = local if port.internal_local else cluster
        self._lead(layout.SERVICE_IPS, layout.NO_ENDPOINTS, self._at(port.cluster_ip, port.port), inside, inside)
        if port.external:
            self._external(cluster, local)

    def _external(self, cluster: str, local: str) -> None:
        port = self.port
        policy = local if port.external_local else cluster
        addresses = (*port.external_ips, *port.load_balancer_ips)
        node_port = port.node_port if self.config.node else 0
        way = self._outer(cluster, policy) if self.usable.anywhere and (addresses or node_port) else ""
        for address in addresses:
            self._lead(layout.SERVICE_IPS, layout.NO_ENDPOINTS, self._at(address, port.port), way, policy)
        if node_port:
            key = f"{port.protocol} . {node_port}"
            self._lead(layout.NODE_PORTS, layout.NO_ENDPOINTS_NODE_PORTS, key, way, policy)
        if port.load_balancer_ips and port.source_ranges:
            self._firewall()

    def _lead(self, to: str, otherwise: str, key: str, chain: str, policy: str) -> None:
        """Lead the key to the chain; and without endpoints by the policy, refuse what has not been led on."""
        if chain:
            self._element(to, key, f"goto {chain}")
        if not policy:
            self._element(otherwise, key, layout.DROP if self.usable.anywhere else layout.REFUSE)

    def _at(self, address: str, number: int) -> str:
        return f"{address} . {self.port.protocol} . {number}"

    def _element(self, name: str, key: str, value: str = "") -> None:
        self.rules.elements[name, key] = value

    def _chain(self, kind: str, lines: Sequence[str], of: str = "") -> str:
        parts = (self.port.service, self.port.protocol, *filter(None, (self.port.name, of)))
        name = _named(kind, "/".join(parts), lines)
        self.rules.chains[name] = tuple(lines)
        return name

    def _policy(self, kind: str, endpoints: Sequence[Endpoint]) -> str:
        """The chain that chooses one of the endpoints; "" for none."""
        if not endpoints:
            return ""
        if self.port.affinity:
            return self._chain(kind, self._sticky(endpoints))
        return self._chain(kind, self._translate(endpoints))

    def _translate(self, endpoints: Sequence[Endpoint]) -> list[str]:
        """The choice of an endpoint. A map costs the kernel as much as five rules."""
        count, protocol = len(endpoints), f"meta l4proto {self.port.protocol}"
        if count > _FEW:
            numbered = ", ".join(f"{number} : {each.address} . {each.port}" for number, each in enumerate(endpoints))
            to = f"{self._number(count)} map {{ {numbered} }}"
            return [f"{protocol} dnat {self.family.nft} addr . port to {to}"]
        # The first takes one of three, the second one of the two that are left: even, and turns stay turns.
        turns = [f"{self._number(count - place)} 0 " for place in range(count - 1)] + [""]
        return [
            f"{turn}{protocol} dnat to {self.family.join(each.address, each.port)}"
            for turn, each in zip(turns, endpoints, strict=True)
        ]

    def _number(self, count: int) -> str:
        how = "inc" if (self.port.balancing or self.config.balancing) == ROUND_ROBIN else "random"
        return f"numgen {how} mod {count}"

    def _sticky(self, endpoints: Sequence[Endpoint]) -> list[str]:
        """First where a client has been before, else by number; each endpoint's chain remembers its clients."""
        ways = [self._remember(endpoint) for endpoint in endpoints]
        lines = [f"{self.family.nft} saddr @{clients} goto {chain}" for clients, chain in ways]
        if len(ways) == 1:
            return [f"goto {ways[0][1]}"]
        numbered = ", ".join(f"{number} : goto {chain}" for number, (_, chain) in enumerate(ways))
        return [*lines, f"{self._number(len(ways))} vmap {{ {numbered} }}"]

    def _remember(self, endpoint: Endpoint) -> tuple[str, str]:
        """The set of an endpoint's clients, and the chain that leads to it."""
        held = f"{{ type {self.family.address}; flags dynamic, timeout; timeout {self.port.affinity}s; }}"
        of = f"{endpoint.address}/{endpoint.port}".replace(":", ".")
        clients = _named("clients", f"{self.port.service}/{of}", (self.port.protocol, self.port.name, held))
        self.rules.sets[clients] = held
        chain = self._chain(
            "endpoint",
            [f"update @{clients} {{ {self.family.nft} saddr }}", *self._translate([endpoint])],
            of,
        )
        return clients, chain

    def _outer(self, cluster: str, policy: str) -> str:
        """The chain for what comes by a node port, an external IP or a load balancer's."""
        mark = f" {layout.mark(self.config)}" if self.config.node else ""
        if not self.port.external_local:
            return self._chain("external", [mark.strip(), f"goto {cluster}"]) if mark else cluster
        # What begins here is as if it went to a load balancer outside and came back: all endpoints serve it.
        lines = [
            f"{self.family.nft} saddr @{layout.LOCAL_PODS} goto {cluster}",
            f"fib saddr type local{mark} goto {cluster}",
        ]
        return self._chain("external", [*lines, *([f"goto {policy}"] if policy else [])])

    def _firewall(self) -> None:
        allowed = list(self.port.source_ranges)
        own = [ip for ip in self.config.node_ips if ip_address(ip).version == self.family.version]
        if any(ip_address(ip) in ip_network(network) for ip in own for network in allowed):
            # A node that has the balancer's address as one of its own may come with it as its source.
            allowed += self.port.load_balancer_ips
        sources = ", ".join(ranges(allowed, self.family))
        chain = self._chain("firewall", [f"{self.family.nft} saddr != {{ {sources} }} drop"])
        for address in self.port.load_balancer_ips:
            self._element(layout.FIREWALL, self._at(address, self.port.port), f"goto {chain}")


def _named(kind: str, whose: str, content: Sequence[str]) -> str:
    """A name that only this content has, and that tells people what it is. The kernel takes 255 characters."""
    digest = hashlib.blake2b("\n".join((whose, *content)).encode(), digest_size=6).hexdigest()
    return f"{kind}-{digest}-{whose}"[:_LONGEST].rstrip("./-")

"""Published ports as an nftables table of the host: destinations translated in the kernel. Pure.

Connections made here (output) and those that come to the machine (prerouting) go straight to the backends, with the
client's address. Only what could not be answered otherwise gets the host's address among the nodes: connections
from the loopback, and those of the cluster's own pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from tiphys.cluster.ports.backends import Backend, Backends
from tiphys.cluster.ports.published import PublishedPort

BEFORE_SERVICES = -105
"""Priority of translation before the service proxy's: who asks for a published port means that one."""
GUARD, SOURCES, FILTER = -300, 95, 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rules go. `inside` are the cluster's addresses: its nodes and pods."""

    table: str
    bridge: str
    inside: Sequence[IPv4Network | IPv6Network]


def in_kernel(port: PublishedPort, found: Backends) -> bool:
    """Whether the kernel can carry all of it: no translation between IP versions, nor out of IPv6's loopback."""
    same = all((":" in address) is (port.version == 6) for address, _ in found.backends)
    return same and not (port.version == 6 and port.loopback)


def table(place: Place, ports: Iterable[tuple[PublishedPort, Backends]]) -> str:
    """The transaction that makes the table what it is to be, whatever it was."""
    carried = [(port, found) for port, found in ports if in_kernel(port, found)]
    translate = [_translation(place, port, found) for port, found in carried if found.backends]
    refuse = [_refusal(place, port) for port, found in carried if not found.backends]
    wanted = [
        # Nodes must not reach what listens on the host's loopback, though the bridge may route such addresses.
        _chain("guard", "filter", "prerouting", GUARD, [f'iifname "{place.bridge}" ip daddr 127.0.0.0/8 drop']),
        _chain("prerouting", "nat", "prerouting", BEFORE_SERVICES, translate),
        _chain("output", "nat", "output", BEFORE_SERVICES, translate),
        _chain("postrouting", "nat", "postrouting", SOURCES, _sources(place, [port for port, _ in carried])),
        _chain("input", "filter", "input", FILTER, refuse),
    ]
    body = "\n".join(wanted)
    return f"table inet {place.table}\ndelete table inet {place.table}\ntable inet {place.table} {{\n{body}\n}}\n"


def removal(name: str) -> str:
    """The transaction after which the table is not there; harmless if it was not."""
    return f"table inet {name}\ndelete table inet {name}\n"


def _chain(name: str, kind: str, hook: str, priority: int, lines: Iterable[str]) -> str:
    body = "".join(f"    {line}\n" for line in lines)
    return f"  chain {name} {{\n    type {kind} hook {hook} priority {priority}; policy accept;\n{body}  }}"


def _match(place: Place, port: PublishedPort) -> str:
    family = "ip6" if port.version == 6 else "ip"
    asked = f"{port.protocol} dport {port.port}"
    if not port.everywhere:
        return f"{family} daddr {port.address} {asked}"
    # The host's addresses among the nodes are not meant: the cluster itself serves there.
    own = "".join(f" {family} daddr != {network}" for network in place.inside if network.version == port.version)
    own += " ip6 daddr != ::1" if port.version == 6 else ""
    return f"meta nfproto ipv{port.version}{own} fib daddr type local {asked}"


def _translation(place: Place, port: PublishedPort, found: Backends) -> str:
    family = "ip6" if port.version == 6 else "ip"
    if len(found.backends) == 1:
        return f"{_match(place, port)} dnat {family} to {_endpoint(found.backends[0])}"
    choice = f"jhash {family} saddr" if found.sticky else "numgen random"
    pairs = ", ".join(f"{i} : {address} . {number}" for i, (address, number) in enumerate(found.backends))
    return f"{_match(place, port)} dnat {family} addr . port to {choice} mod {len(found.backends)} map {{ {pairs} }}"


def _endpoint(backend: Backend) -> str:
    address, number = backend
    return f"[{address}]:{number}" if ":" in address else f"{address}:{number}"


def _refusal(place: Place, port: PublishedPort) -> str:
    return f"{_match(place, port)} reject{' with tcp reset' if port.protocol == 'tcp' else ''}"


def _sources(place: Place, ports: Sequence[PublishedPort]) -> list[str]:
    lines = [f'oifname "{place.bridge}" ip saddr 127.0.0.0/8 masquerade']
    for protocol in sorted({port.protocol for port in ports}):
        numbers = sorted({port.port for port in ports if port.protocol == protocol})
        asked = f"ct status dnat meta l4proto {protocol} ct original proto-dst {{ {', '.join(map(str, numbers))} }}"
        for network in place.inside:
            family = "ip6" if network.version == 6 else "ip"
            lines.append(
                f'iifname "{place.bridge}" oifname "{place.bridge}" {family} saddr {network} {asked} masquerade'
            )
    return lines

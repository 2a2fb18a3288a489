"""Ports of the node that lead to sandboxes: nftables maps in the node's network namespace.

    node's address : host port  ->  sandbox's address : port      (prerouting and output, so also from the node itself)

What comes from outside keeps its source; a sandbox that asks itself, and the node that asks by 127.0.0.1, are
masqueraded so that the answer finds back (from ::1 the kernel lets nothing go elsewhere). All follows from the specs of
the sandboxes that live, so nothing else is kept: `restore` writes the whole table again. Without ports there is none.
"""

from __future__ import annotations

import functools
import logging
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from tiphys.runtime import netns, nft
from tiphys.runtime.connectivity import PortMapping
from tiphys.runtime.types import RuntimeFailure

log = logging.getLogger(__name__)

TABLE = "tiphys-hostports"

Address = IPv4Address | IPv6Address
Key = tuple[str, str]
"""A map's name and a key in it."""

_BEFORE_SERVICES, _BEFORE_MASQUERADING, _RAW = -105, 95, -300
_FAMILIES = ((4, "ip", "ipv4_addr"), (6, "ip6", "ipv6_addr"))
_LOOPBACK = "127.0.0.0/8"


@dataclass(frozen=True, slots=True)
class Mapped:
    """A port mapping for one of the sandbox's addresses. `asked` is None for each address of the node."""

    protocol: str
    asked: Address | None
    host_port: int
    address: Address
    port: int

    @property
    def key(self) -> Key:
        end = f"{self.protocol} . {self.host_port}"
        version = self.address.version
        return (f"one{version}", f"{self.asked} . {end}") if self.asked else (f"any{version}", end)


def mapped(ports: Iterable[PortMapping], addresses: Sequence[str]) -> Iterator[Mapped]:
    """The mappings of a sandbox with these addresses; one for an address of a version that it does not have is none."""
    for each in ports:
        asked = ip_address(each.host_address) if each.host_address else None
        for address in map(ip_address, addresses):
            if asked is None or asked.version == address.version:
                wanted = asked if asked and not asked.is_unspecified else None
                yield Mapped(each.protocol, wanted, each.host_port, address, each.port)


def contents(sandboxes: Iterable[Sequence[Mapped]]) -> dict[Key, str]:
    """What the maps must have; who came later wins."""
    found: dict[Key, str] = {}
    for each in (one for sandbox in sandboxes for one in sandbox):
        found[each.key] = f"{each.address} . {each.port}"
        found[f"self{each.address.version}", f"{each.address} . {each.address}"] = ""
    return found


def changes(before: Mapping[Key, str], after: Mapping[Key, str]) -> str:
    """nft commands that make one out of the other."""
    gone = [key for key, value in before.items() if after.get(key) != value]
    new = [(key, value) for key, value in after.items() if before.get(key) != value]
    deleted = [f"delete element inet {TABLE} {name} {{ {key} }}" for name, key in gone]
    added = [
        f"add element inet {TABLE} {name} {{ {key}{' : ' + value if value else ''} }}" for (name, key), value in new
    ]
    return "\n".join(deleted + added)


def table(devices: str) -> str:
    """The empty table. `devices` is what the names of sandboxes' links begin with.

    Their links take packets for 127.0.0.1 (route_localnet), which only answers to the node's own may be: what a sandbox
    sends there itself is dropped (CVE-2020-8558)."""
    maps, leads, hides = [], [], [f'ct status dnat oifname "{devices}*" ip saddr {_LOOPBACK} masquerade']
    guards = [f'iifname "{devices}*" ip {end} {_LOOPBACK} drop' for end in ("saddr", "daddr")]
    for version, ip, kind in _FAMILIES:
        ends = f"{kind} . inet_service"
        maps += [
            f"map one{version} {{ type {kind} . inet_proto . inet_service : {ends}; }}",
            f"map any{version} {{ type inet_proto . inet_service : {ends}; }}",
            f"set self{version} {{ type {kind} . {kind}; }}",
        ]
        leads += [
            f"dnat {ip} to {ip} daddr . meta l4proto . th dport map @one{version}",
            f"meta nfproto ipv{version} dnat {ip} to meta l4proto . th dport map @any{version}",
        ]
        hides.append(f"ct status dnat {ip} saddr . {ip} daddr @self{version} masquerade")
    chains = [
        ("prerouting", f"type nat hook prerouting priority {_BEFORE_SERVICES};", ["fib daddr type local jump ports"]),
        ("output", f"type nat hook output priority {_BEFORE_SERVICES};", ["fib daddr type local jump ports"]),
        ("ports", "", leads),
        ("postrouting", f"type nat hook postrouting priority {_BEFORE_MASQUERADING};", hides),
        ("guard", f"type filter hook prerouting priority {_RAW};", guards),
    ]
    lines = [*maps, *("\n".join((f"chain {name} {{", head, *rules, "}")) for name, head, rules in chains)]
    return "\n".join((f"table inet {TABLE} {{}}", f"delete table inet {TABLE}", f"table inet {TABLE} {{", *lines, "}"))


class HostPorts:
    """Those of a node. `devices` as in `table`. Safe among threads. Methods raise RuntimeFailure."""

    def __init__(self, namespace: str, devices: str) -> None:
        self._namespace, self._devices = namespace, devices
        self._owners: dict[str, tuple[Mapped, ...]] = {}
        self._there: dict[Key, str] | None = None
        """What the table has; None: there is no table, or it is not known."""
        self._lock = threading.Lock()

    def restore(self, living: Mapping[str, tuple[Sequence[PortMapping], Sequence[str]]]) -> None:
        """Have those of the sandboxes that live, by ID with their addresses, and no others."""
        with self._lock:
            self._owners = {id: tuple(mapped(*each)) for id, each in living.items() if each[0]}
            self._there = None
            self._write()

    def open(self, sandbox: str, ports: Sequence[PortMapping], addresses: Sequence[str]) -> None:
        """Map a sandbox's ports. Harmless if done already."""
        wanted = tuple(mapped(ports, addresses))
        with self._lock:
            self._owners.pop(sandbox, None)
            if wanted:
                self._owners[sandbox] = wanted
                self._write()
                self._forget(wanted)

    def close(self, sandbox: str) -> None:
        """Map them no more. Harmless if done already."""
        with self._lock:
            if gone := self._owners.pop(sandbox, ()):
                self._write()
                self._forget(gone)

    def _write(self) -> None:
        wanted = contents(self._owners.values())
        try:
            if not wanted:
                netns.inside(self._namespace, lambda: nft.delete_tables(TABLE))
                self._there = None
            elif self._there is None or not self._run(changes(self._there, wanted)):
                self._there = None
                self._run(table(self._devices) + "\n" + changes({}, wanted), must=True)
                self._there = wanted
            else:
                self._there = wanted
        except OSError as error:
            raise RuntimeFailure(f"host ports: {error.strerror}") from error

    def _run(self, commands: str, *, must: bool = False) -> bool:
        """Whether it worked: it does not when somebody has changed the table."""
        from tiphys.base.nftables import Nftables, NftablesError

        with Nftables(functools.partial(netns.inside, self._namespace)) as firewall:
            try:
                firewall.run(commands)
            except NftablesError:
                if must:
                    raise
                return False
        return True

    def _forget(self, ports: Sequence[Mapped]) -> None:
        """Have UDP clients looked at anew: a flow that began before goes on where it went otherwise."""
        wanted = {each for each in ports if each.protocol == "udp"}
        if not wanted:
            return
        from tiphys.base.conntrack import Conntrack, Flow, end, open_socket

        asked = {(each.asked.packed if each.asked else b"", each.host_port.to_bytes(2)) for each in wanted}
        ends = {end(str(each.address), each.port) for each in wanted}
        families = {socket.AF_INET if each.address.version == 4 else socket.AF_INET6 for each in wanted}

        def is_stale(flow: Flow) -> bool:
            places = ((place, flow.destination[-2:]) for place in (b"", flow.destination[:-2]))
            return flow.answerer in ends or not asked.isdisjoint(places)

        try:
            with Conntrack(lambda: netns.inside(self._namespace, open_socket)) as table:
                for family in families:
                    table.delete([flow for flow in table.flows(family) if is_stale(flow)])
        except OSError as error:
            log.warning("UDP clients of host ports may be led to a pod that has gone: %s", error.strerror)

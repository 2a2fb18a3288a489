"""The network of nodes on one machine.

    host            bridge of the cluster (its addresses are the nodes' gateways), routes to each pod CIDR,
      |             masquerading for what leaves the machine
      | veth
    node namespace  eth0 with the node's addresses, forwarding, the first address of each pod CIDR on lo
      | veth a pod
    pod namespace   eth0 with the pod's addresses

Each node is a namespace kept by a mount at RUN_DIR/netns/NODE. So pods are reachable from the host and from each
other, also across nodes, and a node's ports, routes and firewall are its own. Everything is there once for each IP
version that the cluster has, the primary one first.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

from tiphys.base.netlink import Netlink
from tiphys.runtime import forwarding, netns, nft
from tiphys.runtime.network import DEVICES, PodNetwork, hardware_address
from tiphys.runtime.types import RuntimeFailure

OLD_BRIDGE = "pods"
"""Where earlier versions connected pods: it stays as long as the node, for pods that still run."""
SOURCES = "tiphys-sources"
"""The nftables table (inet) that drops what pods send with others' addresses; for IPv4 routing does that, too."""


@dataclass(frozen=True, slots=True)
class ClusterNetwork:
    """The host's side. `bridge` is its device's name (15 characters at most), `gateway` its address among the nodes."""

    bridge: str
    nodes: tuple[str, ...]
    """e.g. 10.89.0.0/24; of each IP version, the primary one first"""
    pods: tuple[str, ...]
    """e.g. 10.244.0.0/16"""
    run_dir: Path
    """For this machine, e.g. /run/tiphys; the same for all clusters."""
    owner: str = ""
    """Whose the bridge is, told in the device's alias (ip link): two owners must not have the same addresses."""
    mtu: int = 0
    """Bytes of a packet of nodes and pods; 0: as the device that the host's default route uses."""

    @property
    def gateways(self) -> tuple[str, ...]:
        """The host's addresses among the nodes: the first of each range."""
        return tuple(str(ip_network(each)[1]) for each in self.nodes)

    @property
    def ipv6(self) -> bool:
        return any(ip_network(each).version == 6 for each in self.nodes)


def setup_cluster_network(network: ClusterNetwork) -> list[str]:
    """Make bridge, forwarding and masquerading; harmless if they are there. Returns what is missing, for the user.

    Raises RuntimeFailure when the bridge cannot be made.
    """
    try:
        with Netlink() as link:
            if not link.index(network.bridge):
                # Its own fixed address: else it takes its ports' lowest, and nodes remember the old one.
                link.add_bridge(network.bridge, hardware_address(network.gateways[0]))
            device = link.index(network.bridge)
            _own(link, device, network)
            netns.trust_neighbours(network.bridge)
            for gateway, nodes in zip(network.gateways, network.nodes, strict=True):
                link.add_address(device, f"{gateway}/{ip_network(nodes).prefixlen}")
            if network.ipv6:
                link.add_address(device, _link_local(1))
            link.set_up(device)
    except OSError as error:
        raise RuntimeFailure(f"cluster network: {error.strerror}") from error
    missing: list[str] = []
    try:
        forwarding.hold(network.bridge, ipv6=network.ipv6)
        # Two nodes reach each other's pods through the host: telling them of a shorter way would be wrong.
        _write_sysctl(f"net/ipv4/conf/{network.bridge}/send_redirects", "0")
    except OSError as error:
        missing.append(f"pods cannot reach other nodes: {forwarding.FORWARDING}: {error.strerror}")
    try:
        nft.masquerade(network.bridge, [*network.nodes, *network.pods])
    except OSError as error:
        missing.append(f"pods cannot reach the outside: no nftables masquerading ({error.strerror})")
    return missing


def _own(link: Netlink, device: int, network: ClusterNetwork) -> None:
    found = link.alias(network.bridge)
    if not found and network.owner:
        link.set_alias(device, network.owner)
    elif found and found != network.owner:
        raise RuntimeFailure(
            f"the addresses {', '.join(network.nodes)} (device {network.bridge}) are those of {found}: end that first"
        )


def _is_anothers(link: Netlink, network: ClusterNetwork) -> bool:
    return bool(link.index(network.bridge)) and link.alias(network.bridge) not in ("", network.owner)


def teardown_cluster_network(network: ClusterNetwork) -> list[str]:
    """Undo it all; returns what could not be removed. Harmless if it is gone or somebody else's."""
    left: list[str] = []
    with Netlink() as link:
        if _is_anothers(link, network):
            return []
        try:
            link.delete_link(network.bridge)
        except OSError as error:
            if error.errno != errno.ENODEV:
                left.append(f"device {network.bridge}: {error.strerror}")
    try:
        nft.delete_tables(network.bridge)
    except OSError as error:
        left.append(f"nftables table {network.bridge}: {error.strerror}")
    try:
        forwarding.release(network.bridge)
    except OSError as error:
        left.append(f"{forwarding.FORWARDING}: {error.strerror}")
    return left


def _link_local(number: int) -> str:
    """Whoever forwards asks for neighbours from such an address. The kernel makes one, but up to a second later."""
    return f"fe80::{number:x}/64"


def _write_sysctl(name: str, value: str) -> None:
    Path("/proc/sys", name).write_text(value)


class NodeNetwork:
    """One node: its namespace, its link to the host, the ground for its pods' links.

    `addresses` and `pod_cidrs`, e.g. 10.89.0.2 and 10.244.1.0/24, are of each IP version of the cluster, in its order.
    `others`: somebody else connects the pods (runtime.cni), so that nothing is prepared for that.
    """

    def __init__(
        self,
        cluster: ClusterNetwork,
        name: str,
        addresses: Sequence[str],
        pod_cidrs: Sequence[str],
        *,
        others: bool = False,
    ) -> None:
        self.cluster, self.name, self._others = cluster, name, others
        self.addresses, self.pod_cidrs = tuple(addresses), tuple(pod_cidrs)
        self._path = cluster.run_dir / "netns" / f"{cluster.bridge}-{name}"
        self._number = int(ip_address(self.addresses[0])) - int(ip_network(cluster.nodes[0])[0])
        self._veth = f"{cluster.bridge}-{self._number}"[-15:]

    @property
    def namespace(self) -> str:
        """The path of the node's network namespace."""
        return str(self._path)

    @property
    def address(self) -> str:
        """The primary one."""
        return self.addresses[0]

    def setup(self) -> list[str]:
        """Make what is missing; the cluster's network must be there. Returns what the machine lacks, for the user.
        Raises RuntimeFailure."""
        try:
            netns.persist(self._path)
            netns.inside(self.namespace, self._sysctls)
            with Netlink() as host, netns.netlink_in(self.namespace) as node:
                if node.index(OLD_BRIDGE):
                    # Its pods take the others for neighbours.
                    netns.write_sysctl(self.namespace, f"net.ipv4.conf.{OLD_BRIDGE}.proxy_arp", "1")
                self._connect(host, node)
                if not self._others:
                    _make_ground(node, self.pod_cidrs)
                for cidr, address in zip(self.pod_cidrs, self.addresses, strict=True):
                    host.add_route(cidr, address)
        except OSError as error:
            raise RuntimeFailure(f"network of node {self.name}: {error.strerror}") from error
        return guard_sources(self.namespace) if self.cluster.ipv6 and not self._others else []

    def _sysctls(self) -> None:
        _write_sysctl("net/ipv4/ip_forward", "1")
        # A new namespace has the host's settings. Of rp_filter the larger one of "all" and the device's counts, and 2
        # is less strict than 1. Redirects would lead pods to each other, who are not on one link.
        for device in ("all", "default"):
            for name in ("send_redirects", "rp_filter", "route_localnet"):
                _write_sysctl(f"net/ipv4/conf/{device}/{name}", "0")
        netns.trust_neighbours("default")
        if self.cluster.ipv6:
            _write_sysctl("net/ipv6/conf/all/forwarding", "1")
        else:  # no way past what is said of IPv4
            with contextlib.suppress(FileNotFoundError):
                _write_sysctl("net/ipv6/conf/default/disable_ipv6", "1")

    def _connect(self, host: Netlink, node: Netlink) -> None:
        bridge = host.index(self.cluster.bridge)
        if not node.index("eth0"):
            with contextlib.suppress(OSError):
                host.delete_link(self._veth)
            handle = os.open(self.namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                host.add_veth(self._veth, "eth0", handle, mtu=self.cluster.mtu or outgoing_mtu(host))
            finally:
                os.close(handle)
        host.set_up(host.index(self._veth), bridge)
        node.set_up(1)
        device = node.index("eth0")
        for address, nodes in zip(self.addresses, self.cluster.nodes, strict=True):
            _place(node, device, address, ip_network(nodes).prefixlen)
        if self.cluster.ipv6:
            node.add_address(device, _link_local(self._number))
        node.set_up(device)
        # The way to other nodes, too: packets and their answers pass the host, whose firewall is to see both.
        for gateway, address in zip(self.cluster.gateways, self.addresses, strict=True):
            node.add_route("default", gateway, device, address)

    def pod_network(self, state_dir: Path) -> PodNetwork:
        """What LinuxRuntime gives its sandboxes; `state_dir` keeps the addresses."""
        with netns.netlink_in(self.namespace) as node:
            mtu = node.mtu("eth0")
        return PodNetwork(self.namespace, self.pod_cidrs, state_dir, mtu, self.addresses)

    def teardown(self) -> list[str]:
        """Undo `setup`; returns what could not be removed. Harmless if it is gone."""
        left: list[str] = []
        with Netlink() as host:
            steps = [(f"namespace {self._path}", functools.partial(netns.drop, self._path))]
            if not _is_anothers(host, self.cluster):
                steps.insert(0, (f"device {self._veth}", functools.partial(host.delete_link, self._veth)))
            for what, undo in steps:
                try:
                    undo()
                except OSError as error:
                    if error.errno != errno.ENODEV:
                        left.append(f"{what}: {error.strerror}")
        return left


def _place(node: Netlink, device: int, address: str, before: int) -> None:
    """Give a node its address; earlier versions gave it as a part of the nodes' network (prefix length `before`)."""
    old = f"{address}/{before}"
    # IPv4: routes that name the address end with it. IPv6: a device has an address once.
    if ip_address(address).version == 4:
        node.add_address(device, address)
    with contextlib.suppress(OSError):
        node.delete_address(device, old)
    node.add_address(device, address)


def _make_ground(node: Netlink, pod_cidrs: Sequence[str]) -> None:
    """Pods' gateways, which no pod's own device needs to have, and no way to addresses that no pod has."""
    device = node.index(OLD_BRIDGE) or 1
    for cidr in pod_cidrs:
        node.add_address(device, str(ip_network(cidr)[1]))
        node.refuse_route(cidr)


def guard_sources(namespace: str, table: str = SOURCES) -> list[str]:
    """Drop packets of pods whose source is not theirs; returns what is missing for it, for the user.

    Neighbours are written down, so that a pod has nothing to say from a link-local address but to fill tables."""
    from tiphys.base.nftables import Nftables

    rules = f"""
        table inet {table} {{}}
        delete table inet {table}
        table inet {table} {{
            chain prerouting {{
                type filter hook prerouting priority raw; policy accept;
                iifname "{DEVICES}*" ip6 saddr fe80::/10 drop
                iifname "{DEVICES}*" fib saddr . iif oif missing drop
            }}
        }}"""
    try:
        with Nftables(functools.partial(netns.inside, namespace)) as firewall:
            firewall.run(rules)
    except OSError as error:
        return [f"pods can use each other's addresses as their own: {error.strerror}"]
    return []


def outgoing_mtu(host: Netlink) -> int:
    """The packet size of the device that the default route uses; 0 without one."""
    names = {number: name for name, number in host.links().items()}
    for family in (socket.AF_INET, socket.AF_INET6):
        for prefix, device in host.routes(family):
            if prefix == "default" and device in names:
                return host.mtu(names[device])
    return 0

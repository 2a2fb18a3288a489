"""The network of nodes on one machine.

    host            bridge of the cluster (its address is the nodes' gateway), routes to each pod CIDR,
      |             masquerading for what leaves the machine
      | veth
    node namespace  eth0 with the node's address, forwarding, bridge `pods` with the pod CIDR's first address
      | veth
    pod namespace   eth0 with the pod's address

Each node is a namespace kept by a mount at RUN_DIR/netns/NODE. So pods are reachable from the host and from each
other, also across nodes, and a node's ports, routes and firewall are its own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from tiphys.base.netlink import Netlink
from tiphys.runtime import netns, nft
from tiphys.runtime.network import BridgeNetwork
from tiphys.runtime.types import RuntimeFailure

POD_BRIDGE = "pods"
FORWARDING = "net/ipv4/ip_forward"
FORWARDING_USERS = Path("/run/tiphys-forwarding.json")
"""One for the machine, whatever the run directory: clusters of different ones share the setting."""


@dataclass(frozen=True, slots=True)
class ClusterNetwork:
    """The host's side. `bridge` is its device's name (15 characters at most), `gateway` its address among the nodes."""

    bridge: str
    nodes: str
    """e.g. 10.89.0.0/24"""
    pods: str
    """e.g. 10.244.0.0/16"""
    run_dir: Path
    """For this machine, e.g. /run/tiphys; the same for all clusters."""
    owner: str = ""
    """Whose the bridge is, told in the device's alias (ip link): two owners must not have the same addresses."""

    @property
    def gateway(self) -> str:
        """The host's address among the nodes: the first."""
        return str(IPv4Network(self.nodes)[1])


def setup_cluster_network(network: ClusterNetwork) -> list[str]:
    """Make bridge, forwarding and masquerading; harmless if they are there. Returns what is missing, for the user.

    Raises RuntimeFailure when the bridge cannot be made.
    """
    try:
        with Netlink() as link:
            if not link.index(network.bridge):
                link.add_bridge(network.bridge)
            device = link.index(network.bridge)
            _own(link, device, network)
            with contextlib.suppress(FileNotFoundError):  # a host without IPv6
                _write_sysctl(f"net/ipv6/conf/{network.bridge}/accept_ra", "0")
            link.add_address(device, f"{network.gateway}/{IPv4Network(network.nodes).prefixlen}")
            link.set_up(device)
    except OSError as error:
        raise RuntimeFailure(f"cluster network: {error.strerror}") from error
    missing: list[str] = []
    try:
        _hold_forwarding(network)
        # Two nodes reach each other's pods through the host: telling them of a shorter way would be wrong.
        _write_sysctl(f"net/ipv4/conf/{network.bridge}/send_redirects", "0")
    except OSError as error:
        missing.append(f"pods cannot reach other nodes: {FORWARDING}: {error.strerror}")
    try:
        nft.masquerade(network.bridge, [network.nodes, network.pods])
    except OSError as error:
        missing.append(f"pods cannot reach the outside: no nftables masquerading ({error.strerror})")
    return missing


def _own(link: Netlink, device: int, network: ClusterNetwork) -> None:
    found = link.alias(network.bridge)
    if not found and network.owner:
        link.set_alias(device, network.owner)
    elif found and found != network.owner:
        raise RuntimeFailure(
            f"the addresses {network.nodes} (device {network.bridge}) are those of {found}: end that first"
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
        nft.delete_table(network.bridge)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP):
            left.append(f"nftables table {network.bridge}: {error.strerror}")
    try:
        _release_forwarding(network)
    except OSError as error:
        left.append(f"{FORWARDING}: {error.strerror}")
    return left


@contextlib.contextmanager
def _forwarding_users() -> Iterator[dict[str, str]]:
    """Who needs forwarding on this machine, with the value to restore under "before"; saved when done."""
    while True:
        descriptor = os.open(FORWARDING_USERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(descriptor, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not os.fstat(descriptor).st_nlink:  # removed while this process waited: there is a new one
                continue
            text = file.read()
            state: dict[str, str] = json.loads(text) if text else {}
            yield state
            file.seek(0)
            file.truncate()
            file.write(json.dumps(state) if state else "")
            if not state:
                FORWARDING_USERS.unlink()
            return


def _hold_forwarding(network: ClusterNetwork) -> None:
    with _forwarding_users() as state:
        state.setdefault("before", Path("/proc/sys", FORWARDING).read_text().strip())
        state[network.bridge] = "user"
        _write_sysctl(FORWARDING, "1")


def _release_forwarding(network: ClusterNetwork) -> None:
    with _forwarding_users() as state:
        with Netlink() as link:
            gone = [name for name in state if name != "before" and not link.index(name)]
        for name in {*gone, network.bridge}:
            state.pop(name, None)
        if set(state) == {"before"}:
            _write_sysctl(FORWARDING, state.pop("before"))


def _write_sysctl(name: str, value: str) -> None:
    Path("/proc/sys", name).write_text(value)


class NodeNetwork:
    """One node: its namespace, its link to the host, its bridge for pods. `pod_cidr` as in 10.244.1.0/24."""

    def __init__(self, cluster: ClusterNetwork, name: str, address: str, pod_cidr: str) -> None:
        self.cluster, self.name, self.address, self.pod_cidr = cluster, name, address, pod_cidr
        self._path = cluster.run_dir / "netns" / f"{cluster.bridge}-{name}"
        self._veth = f"{cluster.bridge}-{int(IPv4Address(address)) - int(IPv4Network(cluster.nodes)[0])}"[-15:]

    @property
    def namespace(self) -> str:
        """The path of the node's network namespace."""
        return str(self._path)

    def setup(self) -> None:
        """Make what is missing; the cluster's network must be there. Raises RuntimeFailure."""
        try:
            netns.persist(self._path)
            # For all devices to come: else a pod with raw sockets could become the router (CVE-2020-10749).
            with contextlib.suppress(FileNotFoundError):
                netns.write_sysctl(self.namespace, "net.ipv6.conf.default.accept_ra", "0")
            with Netlink() as host, netns.netlink_in(self.namespace) as node:
                self._connect(host, node)
                self._pod_bridge(node)
                host.add_route(self.pod_cidr, self.address)
            netns.write_sysctl(self.namespace, "net.ipv4.ip_forward", "1")
        except OSError as error:
            raise RuntimeFailure(f"network of node {self.name}: {error.strerror}") from error

    def _connect(self, host: Netlink, node: Netlink) -> None:
        bridge = host.index(self.cluster.bridge)
        if not node.index("eth0"):
            with contextlib.suppress(OSError):
                host.delete_link(self._veth)
            handle = os.open(self.namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                host.add_veth(self._veth, "eth0", handle, mtu=outgoing_mtu(host))
            finally:
                os.close(handle)
        host.set_up(host.index(self._veth), bridge)
        node.set_up(1)
        device = node.index("eth0")
        node.add_address(device, f"{self.address}/{IPv4Network(self.cluster.nodes).prefixlen}")
        node.set_up(device)
        node.add_route("default", self.cluster.gateway)

    def _pod_bridge(self, node: Netlink) -> None:
        subnet = IPv4Network(self.pod_cidr)
        if not node.index(POD_BRIDGE):
            # Its own fixed address: else a bridge takes the lowest of its ports', and pods' neighbour caches go stale.
            node.add_bridge(POD_BRIDGE, b"\x0a\x58" + subnet[1].packed)
        device = node.index(POD_BRIDGE)
        node.add_address(device, f"{subnet[1]}/{subnet.prefixlen}")
        node.set_up(device)

    def pod_network(self, state_dir: Path) -> BridgeNetwork:
        """What LinuxRuntime gives its sandboxes; `state_dir` keeps the addresses."""
        with netns.netlink_in(self.namespace) as node:
            mtu = node.mtu("eth0")
        return BridgeNetwork(self.namespace, POD_BRIDGE, self.pod_cidr, state_dir, mtu)

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


def outgoing_mtu(host: Netlink) -> int:
    """The packet size of the device that the default route uses; 0 without one."""
    names = {number: name for name, number in host.links().items()}
    for prefix, device in host.routes():
        if prefix == "default" and device in names:
            return host.mtu(names[device])
    return 0

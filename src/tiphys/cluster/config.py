"""What a cluster is made of: its name, its address ranges, its nodes. Kept in cluster.json.

Clusters on one machine must not share address ranges. Each takes the first `index` whose ranges (see `ranges`) no
other cluster and no route of the host uses.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from tiphys.base import outside
from tiphys.base.errors import Permanent
from tiphys.base.files import write_json
from tiphys.cluster import paths
from tiphys.cluster.locks import locked
from tiphys.cluster.ranges import IP_FAMILIES, MAX_NODES, Address, Network, Ranges, ranges_of

MAX_CLUSTERS = 48
COMPONENTS = ("control-plane", "gateway")
"""Names of processes, which no node may have."""
BRIDGE = re.compile(r"tiphys(\d+)")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")
DEFAULT_NAME = "default"
DEFAULT_PORT = 6443


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """A node of this machine; `index` counts from 1 and decides its addresses."""

    name: str
    index: int


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    name: str
    index: int
    port: int
    data: str
    nodes: tuple[NodeConfig, ...] = ()
    store: str = ""
    """A store URL; "" is SQLite in the data directory."""
    node_size: Mapping[str, str] = field(default_factory=dict)
    """What each node offers, e.g. {"cpu": "2"}; the rest is an equal share of this machine."""
    overcommit: bool = False
    """Whether the nodes may offer more than the machine has."""
    ip_family: str = "ipv4"
    """One of `ranges.IP_FAMILIES`; fixed when the cluster is made."""
    listen: str = ""
    """The address at which other machines reach the API server, if nodes of theirs may join."""
    overlay: str = "vxlan"
    """The way to pods of other machines: one of overlay.types.MODES."""
    publish: tuple[str, ...] = ()
    """Published ports, as `ports.published` reads them."""
    balancing: str = "random"
    """How Services choose among endpoints, unless they are annotated: one of proxy.services.config.BALANCINGS."""
    cni: str = ""
    """Directory of CNI configurations whose plugins connect pods; "" for this program's own network."""
    cni_bin_dirs: str = ""
    """Where these plugins are, separated by colons; "" for the usual places."""

    @property
    def paths(self) -> paths.ClusterPaths:
        return paths.ClusterPaths(self.name, Path(self.data))

    @property
    def context(self) -> str:
        return f"tiphys-{self.name}"

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ranges(self) -> tuple[Ranges, ...]:
        """The address ranges of each of its IP families, the primary one first."""
        return ranges_of(self.index, self.ip_family)

    @property
    def node_networks(self) -> tuple[Network, ...]:
        return tuple(each.nodes for each in self.ranges)

    @property
    def pod_networks(self) -> tuple[Network, ...]:
        return tuple(each.pods for each in self.ranges)

    @property
    def pods_here(self) -> tuple[Network, ...]:
        """What pods of this machine's nodes can have, of each IP family."""
        return tuple(part for each in self.ranges for part in each.pods_here)

    @property
    def service_networks(self) -> tuple[Network, ...]:
        return tuple(each.services for each in self.ranges)

    @property
    def gateways(self) -> tuple[Address, ...]:
        """The host's own addresses among the nodes."""
        return tuple(each.gateway for each in self.ranges)

    @property
    def gateway(self) -> Address:
        """The one of the primary family."""
        return self.gateways[0]

    @property
    def bridge(self) -> str:
        """The host's bridge that joins the nodes (15 characters at most)."""
        return f"tiphys{self.index}"

    @property
    def load_balancers(self) -> str:
        """The addresses of the nodes' networks that no node can have, FIRST-LAST, by commas."""
        return ",".join(each.load_balancers for each in self.ranges)

    @property
    def dns_addresses(self) -> tuple[str, ...]:
        """Where pods find name servers: the tenth address of each range of Services."""
        return tuple(str(each[10]) for each in self.service_networks)

    def node_addresses(self, node: NodeConfig) -> tuple[Address, ...]:
        return tuple(each.node_address(node.index) for each in self.ranges)

    def pod_cidrs(self, node: NodeConfig) -> tuple[Network, ...]:
        return tuple(each.pod_cidr(node.index) for each in self.ranges)

    def node(self, name: str) -> NodeConfig:
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes) or "none"
        raise Permanent(f"cluster {self.name} has no node {name!r}; its nodes: {known}")

    def with_nodes(self, count: int) -> ClusterConfig:
        """At least `count` nodes; those that are there stay."""
        config = self
        while len(config.nodes) < count:
            config = config.with_node("")
        return config

    def with_node(self, name: str) -> ClusterConfig:
        """One node more, called `name` or, when that is "", node-INDEX."""
        used = {node.index for node in self.nodes}
        index = next(i for i in range(1, MAX_NODES + 2) if i not in used)
        if index > MAX_NODES:
            raise Permanent(f"cluster {self.name} has {MAX_NODES} nodes, no more fit into {self.node_networks[0]}")
        name = name or f"node-{index}"
        check_name("node name", name)
        if name in COMPONENTS:
            raise Permanent(f"node name {name!r} is the name of another component; choose another one")
        if any(node.name == name for node in self.nodes):
            raise Permanent(f"cluster {self.name} has a node {name!r} already")
        return replace(self, nodes=(*self.nodes, NodeConfig(name, index)))

    def without_node(self, name: str) -> ClusterConfig:
        gone = self.node(name)
        return replace(self, nodes=tuple(node for node in self.nodes if node != gone))

    def save(self) -> None:
        """In the data directory, and a copy where all clusters of the machine are listed."""
        pointer = paths.pointer(self.name)
        pointer.parent.mkdir(mode=paths.PRIVATE, parents=True, exist_ok=True)
        write_json(self.paths.config, asdict(self))
        write_json(pointer, asdict(self))


def check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise Permanent(
            f"{what} {name!r} is invalid: 1 to 30 lower case letters, digits or '-', beginning and ending with a "
            "letter or digit"
        )


def load(name: str) -> ClusterConfig | None:
    """The cluster called `name`, or None. Raises Permanent if its configuration cannot be read."""
    pointer = paths.pointer(name)
    try:
        copy = json.loads(pointer.read_text())
        kept = Path(copy["data"], "cluster.json")
        return _decode(json.loads(kept.read_text()) if kept.exists() else copy)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Permanent(f"cluster {name}: its configuration cannot be read ({error}); see {pointer}") from error


def last_known(name: str) -> ClusterConfig | None:
    """Like `load`, but what its data directory has lost or spoilt is taken from the copy: for looking and deleting."""
    try:
        return load(name)
    except Permanent:
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
            return _decode(json.loads(paths.pointer(name).read_text()))
        raise


def existing(name: str) -> ClusterConfig:
    """The cluster called `name`; raises Permanent, naming those that exist, if there is none."""
    return _found(name, load(name))


def deletable(name: str) -> ClusterConfig:
    """Like `existing`, by what was last known of it."""
    return _found(name, last_known(name))


def _found(name: str, config: ClusterConfig | None) -> ClusterConfig:
    if config is None:
        known = ", ".join(names()) or "none"
        raise Permanent(f"no cluster {name!r}; clusters: {known}")
    return config


def names() -> list[str]:
    directory = paths.home() / "clusters"
    return sorted(file.stem for file in directory.glob("*.json")) if directory.is_dir() else []


def create(name: str, port: int, data: Path | None, store: str, ip_family: str = "ipv4") -> ClusterConfig:
    """A new cluster with address ranges of its own and no nodes yet, or the one whose data are in `data`; saved.

    Raises Permanent if the port or the directory cannot be had."""
    check_name("cluster name", name)
    directory = (data or paths.home() / "data" / name).resolve()
    with locked(paths.create_lock()):
        others = [other for other in map(last_known, names()) if other is not None]
        config = _kept_in(directory, name)
        if config is None:
            check_ip_family(ip_family)
            index = _free_index({*(other.index for other in others), *_bridges()}, list(_routes()), ip_family)
            config = ClusterConfig(name, index, 0, str(directory), store=store, ip_family=ip_family)
        elif sharer := next((other.name for other in others if other.index == config.index), None):
            raise Permanent(f"--data-dir {directory}: its address ranges are those of cluster {sharer} now")
        wanted = port or config.port
        if wanted:
            check_port(name, wanted)
        config = replace(config, port=wanted or _free_port({other.port for other in others}))
        config.paths.make()
        config.save()
    return config


def _kept_in(directory: Path, name: str) -> ClusterConfig | None:
    """The cluster `name` whose data are in `directory`; None if it is empty. Anything else there is not ours to use."""
    try:
        inside = sorted(entry.name for entry in directory.iterdir())
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise Permanent(f"--data-dir {directory}: not a directory") from None
    if not inside:
        return None
    try:
        config = _decode(json.loads((directory / "cluster.json").read_text()))
    except FileNotFoundError:
        raise Permanent(
            f"--data-dir {directory}: not empty ({inside[0]}); it must be new or empty, `tiphys delete` removes it"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise Permanent(f"--data-dir {directory}: its cluster.json cannot be read ({error})") from error
    if config.name != name:
        raise Permanent(f"--data-dir {directory}: it has the data of cluster {config.name!r}, not {name!r}")
    return replace(config, data=str(directory))


def check_port(name: str, port: int) -> None:
    """Raises Permanent if another cluster than `name` has the port, or if somebody listens on it."""
    for other in filter(None, map(last_known, names())):
        if other.port == port and other.name != name:
            raise Permanent(f"port {port} is that of cluster {other.name}; choose another with --port")
    if not _listenable(port):
        raise Permanent(f"port {port} of 127.0.0.1 is in use by another program; choose another with --port")


def check_ip_family(ip_family: str) -> None:
    """Raises Permanent if there is no such family, or if this machine cannot have it."""
    if ip_family not in IP_FAMILIES:
        raise Permanent(f"--ip-family {ip_family}: must be one of {', '.join(IP_FAMILIES)}")
    if 6 in IP_FAMILIES[ip_family] and not has_ipv6():
        raise Permanent(
            f"--ip-family {ip_family}: IPv6 is switched off on this machine "
            f"(net.ipv6.conf.all.disable_ipv6 or default.disable_ipv6, or ipv6.disable=1 of the kernel)"
        )


def has_ipv6() -> bool:
    """Whether the kernel speaks IPv6 here, also on devices to come."""
    settings = Path("/proc/sys/net/ipv6/conf")
    try:
        return all((settings / name / "disable_ipv6").read_text().strip() == "0" for name in ("all", "default"))
    except FileNotFoundError:
        return False


def _decode(value: dict[str, Any]) -> ClusterConfig:
    nodes = tuple(NodeConfig(**node) for node in value["nodes"])
    config = ClusterConfig(**{**value, "nodes": nodes, "publish": tuple(value.get("publish", ()))})
    if config.ip_family not in IP_FAMILIES:
        raise ValueError(f"ip_family {config.ip_family!r}")
    return config


def _free_index(taken: Collection[int], routes: Collection[Network], ip_family: str) -> int:
    for index in range(MAX_CLUSTERS):
        networks = [network for ranges in ranges_of(index, ip_family) for network in ranges]
        if index not in taken and not any(_overlap(net, route) for net in networks for route in routes):
            return index
    raise Permanent(f"no free address ranges: {MAX_CLUSTERS} clusters or routes of the host use them all")


def _bridges() -> Iterator[int]:
    """Indexes whose bridge is on this machine: those of clusters of other homes, too, whatever their families."""
    for _, name in socket.if_nameindex():
        if found := BRIDGE.fullmatch(name):
            yield int(found[1])


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _routes() -> Iterator[Network]:
    """Networks that the host has routes to, but for the default route (proc_net(5))."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
        if mask:
            yield IPv4Network((address, bin(mask).count("1")), strict=False)
    with contextlib.suppress(FileNotFoundError):  # a host without IPv6
        for line in Path("/proc/net/ipv6_route").read_text().splitlines():
            destination, length, *_ = line.split()
            if int(length, 16):
                yield IPv6Network((int(destination, 16), int(length, 16)), strict=False)


def _free_port(taken: Collection[int]) -> int:
    """6443, or a port that no cluster has and nobody listens on now."""
    for port in (DEFAULT_PORT, *(0,) * (len(taken) + 1)):
        if (found := _listenable(port)) and found not in taken:
            return found
    raise Permanent("no free TCP port on 127.0.0.1")


def _listenable(port: int) -> int:
    """The port (0: any) if a server could listen there now, else 0."""
    try:
        with outside.listener("127.0.0.1", port) as probe:
            probe.listen()
            return int(probe.getsockname()[1])
    except OSError:
        return 0

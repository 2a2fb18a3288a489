"""A cluster's addresses put onto the machine: the host's bridge, a namespace a node."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator

from tiphys.cluster import paths
from tiphys.cluster.config import ClusterConfig, NodeConfig
from tiphys.cluster.join import joining
from tiphys.runtime.node import ClusterNetwork, NodeNetwork, setup_cluster_network

log = logging.getLogger(__name__)


def owner(config: ClusterConfig) -> str:
    """Whose the devices of the host are: their alias."""
    return f"tiphys cluster {config.name} in {paths.home()}"


def of_cluster(config: ClusterConfig) -> ClusterNetwork:
    """Packets are as large as those to pods of other machines may be, where their nodes may join."""
    mtu = joining.settings(config).mtu if config.listen else 0
    nodes, pods = tuple(map(str, config.node_networks)), tuple(map(str, config.pod_networks))
    return ClusterNetwork(config.bridge, nodes, pods, paths.run_root(), owner(config), mtu)


def of_node(config: ClusterConfig, node: NodeConfig) -> NodeNetwork:
    addresses, pods = map(str, config.node_addresses(node)), map(str, config.pod_cidrs(node))
    return NodeNetwork(of_cluster(config), node.name, tuple(addresses), tuple(pods), others=bool(config.cni))


@contextlib.contextmanager
def choosing_ranges() -> Iterator[None]:
    """One at a time on this machine, whatever their homes: ranges are free until their bridge is there."""
    directory = os.open("/run", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def setup_host(config: ClusterConfig) -> None:
    """The host's side; what the machine lacks for it is logged, `tiphys doctor` says how to get it."""
    for missing in setup_cluster_network(of_cluster(config)):
        log.warning("%s", missing)

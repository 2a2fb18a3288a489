"""`tiphys kubelet --cleanup`: what a node that ran alone left on this machine is removed, its pods included."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from tiphys.base.errors import Permanent
from tiphys.cluster import paths
from tiphys.cluster.alone.ground import BRIDGE, NETWORK_FILE
from tiphys.cluster.alone.node import VXLAN_DEVICE
from tiphys.overlay.app import remove
from tiphys.overlay.types import DEFAULT_VNI, VXLAN, Settings
from tiphys.proxy.policies.kernel import TABLE as POLICIES
from tiphys.proxy.services.config import ProxyConfig
from tiphys.runtime import hostports, nft
from tiphys.runtime.cleanup import purge
from tiphys.runtime.node import ClusterNetwork, teardown_cluster_network

log = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> None:
    """Raises Permanent that names what could not be removed."""
    root = Path(options.root_dir)
    left = purge(root / "runtime", (options.cgroup_root or "kubepods").removeprefix("tiphys/"))
    left += remove(Settings(VXLAN, "0.0.0.0", VXLAN_DEVICE, options.vxlan_id or DEFAULT_VNI))  # noqa: S104 - not bound
    left += teardown_cluster_network(ClusterNetwork(BRIDGE, (), (), paths.run_root()))
    for table in (ProxyConfig().table, POLICIES, hostports.TABLE):
        try:
            nft.delete_tables(table)
        except OSError as error:
            left.append(f"nftables table {table}: {error.strerror}")
    (root / NETWORK_FILE).unlink(missing_ok=True)
    if left:
        raise Permanent(f"not removed: {'; '.join(left)}")
    log.info("nothing of a node is left on this machine's network")

"""`tiphys kubelet --cleanup`: what a node that ran alone left on this machine is removed, its pods included."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from tiphys.base.errors import Permanent
from tiphys.base.files import remove_tree
from tiphys.base.netlink import Netlink
from tiphys.cluster import paths, pod_networks
from tiphys.cluster.alone.ground import BRIDGE, NAMESPACE, NETWORK_FILE
from tiphys.cluster.alone.node import VXLAN_DEVICE
from tiphys.overlay.app import remove
from tiphys.overlay.types import DEFAULT_VNI, VXLAN, Settings
from tiphys.proxy.policies.kernel import TABLE as POLICIES
from tiphys.proxy.services.config import ProxyConfig
from tiphys.runtime import hostports, nft
from tiphys.runtime.cleanup import purge, unmount_below
from tiphys.runtime.network import delete_shapers
from tiphys.runtime.node import ClusterNetwork, teardown_cluster_network

log = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> None:
    """Raises Permanent that names what could not be removed."""
    root = Path(options.root_dir)
    _undo_plugins(options, root / "cni")
    left = purge(root / "runtime", (options.cgroup_root or "kubepods").removeprefix("tiphys/"))
    left += remove(Settings(VXLAN, "0.0.0.0", VXLAN_DEVICE, options.vxlan_id or DEFAULT_VNI))  # noqa: S104 - not bound
    left += teardown_cluster_network(ClusterNetwork(BRIDGE, (), (), paths.run_root()))
    for table in (ProxyConfig().table, POLICIES, hostports.TABLE):
        try:
            nft.delete_tables(table)
        except OSError as error:
            left.append(f"nftables table {table}: {error.strerror}")
    with Netlink() as link:
        delete_shapers(link)
    left += unmount_below(root)  # volumes in memory
    if not left:
        for directory in ("pods", "addresses"):
            remove_tree(root / directory)
        (root / NETWORK_FILE).unlink(missing_ok=True)
    if left:
        raise Permanent(f"not removed: {'; '.join(left)}")
    log.info("nothing of a node is left on this machine's network")


def _undo_plugins(options: argparse.Namespace, state: Path) -> None:
    """Have third-party network plugins release what they gave; what fails is logged."""
    if state.is_dir():
        nowhere = Path(options.cni_conf_dir or state / "none")
        network = pod_networks.plugins(nowhere, options.cni_bin_dir, state, NAMESPACE, ())
        network.undo_all()
        unmount_below(state)

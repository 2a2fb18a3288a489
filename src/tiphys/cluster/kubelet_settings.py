"""The kubelet's settings of a cluster's nodes: what the user says (`tiphys up --kubelet-config`) over what suits nodes
that share a machine with other work.

Addresses, certificates and directories of a node are the cluster's: a KubeletConfiguration that names them is refused.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiphys.base.errors import Permanent
from tiphys.base.files import write_atomic
from tiphys.cluster import config as configs
from tiphys.cluster import processes
from tiphys.cluster.config import ClusterConfig

if TYPE_CHECKING:  # commands and nodes start sooner without
    from tiphys.kubelet.config import KubeletConfig

EASY_ON_DISKS: Mapping[str, Any] = {
    "eviction_hard": {
        "memory.available": "100Mi",
        "nodefs.available": "5%",
        "nodefs.inodesFree": "5%",
        "imagefs.available": "5%",
        "imagefs.inodesFree": "5%",
    },
    "image_gc_high": 95,
    "image_gc_low": 90,
}
"""A laptop's disk is often nearly full of other things than containers: pods go on until it really is."""

_OURS = frozenset(("address", "port", "tls_cert", "tls_key", "client_ca", "cgroup_root", "log_dir", "register_node"))


def check(file: Path | None) -> bytes | None:
    """What is in the user's file; None without one. Raises Permanent for what is not valid or is the cluster's."""
    if file is None:
        return None
    from tiphys.kubelet.configfile.reader import read_config

    try:
        found = read_config(file)
    except OSError as error:
        raise Permanent(f"--kubelet-config {file}: {error.strerror}") from error
    if named := sorted(_OURS & found.keys()):
        raise Permanent(f"--kubelet-config {file}: {', '.join(named)}: the cluster decides that for its nodes")
    return file.read_bytes()


def keep(config: ClusterConfig, content: bytes | None) -> None:
    """For this and later starts of nodes; None leaves what was kept."""
    if content is not None:
        write_atomic(config.paths.kubelet_config, content)


def applied(config: ClusterConfig, own: KubeletConfig) -> KubeletConfig:
    """`own` with what the user said."""
    file = config.paths.kubelet_config
    if not file.exists():
        return own
    from tiphys.kubelet.configfile.reader import read_config

    return replace(own, **read_config(file))


def shut_down(name: str, node: str) -> None:
    """Have a node end its pods as before a shutdown of the machine. Raises Permanent when it cannot."""
    from tiphys.kubelet.config import KubeletConfig
    from tiphys.kubelet.shutdown.groups import periods

    config = configs.existing(name)
    config.node(node)
    settings = applied(config, KubeletConfig(node_name=node, root_dir=Path("/")))
    if not periods(settings):
        raise Permanent(f"node {node} has no shutdownGracePeriod: give one with tiphys up --kubelet-config FILE")
    pid = processes.pid_of(config.paths.lock(node))
    if not pid:
        raise Permanent(f"node {node} does not run")
    os.kill(pid, signal.SIGPWR)

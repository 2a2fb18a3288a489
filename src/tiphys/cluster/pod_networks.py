"""Who connects a node's pods: this program, or third-party plugins (CNI) when a directory of theirs is named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tiphys.base.errors import Permanent
from tiphys.cluster.config import ClusterConfig, NodeConfig
from tiphys.runtime.node import NodeNetwork
from tiphys.runtime.types import Network, SandboxSpec

if TYPE_CHECKING:
    from tiphys.runtime.cni.network import CniNetwork

BIN_DIRS = "/opt/cni/bin:/usr/lib/cni"
_LABELS = {
    "K8S_POD_NAMESPACE": "io.kubernetes.pod.namespace",
    "K8S_POD_NAME": "io.kubernetes.pod.name",
    "K8S_POD_UID": "io.kubernetes.pod.uid",
}


def of_node(config: ClusterConfig, node: NodeConfig, namespace: NodeNetwork) -> Network:
    """What the node's runtime gives its sandboxes; the node's own network must be set up."""
    if not config.cni:
        return namespace.pod_network(config.paths.node(node.name) / "addresses")
    return _plugins_of(config, node, namespace)


def _plugins_of(config: ClusterConfig, node: NodeConfig, namespace: NodeNetwork) -> CniNetwork:
    state = _state(config, node)
    return plugins(_conf_dir(config, node), config.cni_bin_dirs, state, namespace.namespace, namespace.pod_cidrs)


def plugins(conf_dir: Path, bin_dirs: str, state: Path, namespace: str, subnets: Sequence[str]) -> CniNetwork:
    """A network of third-party plugins that run in a network namespace; `bin_dirs` are separated by colons."""
    from tiphys.runtime.cni.network import CniNetwork
    from tiphys.runtime.cni.plugins import Place

    directories = tuple(Path(each) for each in (bin_dirs or BIN_DIRS).split(":"))
    return CniNetwork(Place(directories, namespace), conf_dir, state, subnets, arguments)


def arguments(sandbox: SandboxSpec) -> dict[str, str]:
    """CNI_ARGS: which pod it is."""
    named = {name: sandbox.labels[label] for name, label in _LABELS.items() if label in sandbox.labels}
    return {**named, "K8S_POD_INFRA_CONTAINER_ID": sandbox.id}


def undo(config: ClusterConfig, node: NodeConfig, namespace: NodeNetwork) -> None:
    """Have plugins release what they keep outside of the node, e.g. addresses. What fails is logged."""
    if config.cni and _state(config, node).is_dir():
        _plugins_of(config, node, namespace).undo_all()


def check(conf_dir: str, bin_dirs: str) -> None:
    """Raises Permanent when one of them is no directory."""
    for each in filter(None, (conf_dir, *bin_dirs.split(":"))):
        if not Path(each).is_dir():
            raise Permanent(f"{each}: not a directory")


def chosen(config: ClusterConfig, conf_dir: str, bin_dirs: str) -> ClusterConfig:
    """The cluster with plugins, saved."""
    places = ":".join(map(os.path.abspath, filter(None, bin_dirs.split(":"))))
    config = replace(config, cni=os.path.abspath(conf_dir), cni_bin_dirs=places)
    config.save()
    return config


def _conf_dir(config: ClusterConfig, node: NodeConfig) -> Path:
    """The node's own configurations, in a directory of its name, or those of all nodes."""
    own = Path(config.cni, node.name)
    return own if own.is_dir() else Path(config.cni)


def _state(config: ClusterConfig, node: NodeConfig) -> Path:
    return config.paths.node(node.name) / "cni"

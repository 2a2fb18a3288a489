"""Flags of `tiphys kubelet` about the node's network, and what a file of `tiphys node token` says instead of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tiphys.api.wellknown import CLUSTER_DNS_LABEL
from tiphys.base.errors import Permanent
from tiphys.cluster.flag_values import boolean
from tiphys.cluster.pod_networks import BIN_DIRS
from tiphys.overlay.types import DEFAULT_VNI, MODES, NONE, VXLAN

EXTENSION = "tiphys.io/join"
"""The name of the kubeconfig's extension that has the cluster's settings."""
MAX_VNI = (1 << 24) - 1


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--join", type=Path, metavar="FILE", help="join the cluster whose `tiphys node token` wrote this file")
    add("--cleanup", action="store_true", help="remove the pods and the network that an earlier run left, and end")
    add("--pod-cidr", default="", metavar="CIDR,...", help="addresses of this node's pods (those of its Node object)")
    add("--network", choices=MODES, help=f"the way to pods of other machines ({VXLAN})")
    add("--vxlan-id", type=_vni, metavar="N", help=f"the cluster's number in VXLAN packets ({DEFAULT_VNI})")
    for name, what in (
        ("service-proxy", "serve Services on this node"),
        ("network-policies", "enforce network policies on this node"),
        ("name-server", "run a name server of the cluster on this node, if pods are to ask one (--cluster-dns)"),
    ):
        add(f"--{name}", type=boolean, nargs="?", const=True, default=True, metavar="BOOL", help=f"{what} (true)")
    add("--cni-conf-dir", metavar="DIR", help="let the CNI plugins connect pods that are configured there")
    add("--cni-bin-dir", default="", metavar="DIR:...", help=f"where these plugins are ({BIN_DIRS})")
    add("--network-kubeconfig", metavar="FILE", help="as whom they ask the API server (a certificate is asked for)")


def _vni(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= MAX_VNI:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 1 to {MAX_VNI}")
    return number


def settle(options: argparse.Namespace) -> None:
    """Fill in what the file of --join says, then defaults; flags win. Raises Permanent."""
    if options.join:
        told = _extension(options.join)
        options.bootstrap_kubeconfig = options.bootstrap_kubeconfig or str(options.join)
        options.kubeconfig = options.kubeconfig or str(Path(options.root_dir, "kubeconfig"))
        for name in ("cluster_dns", "cluster_domain", "network", "vxlan_id"):
            if getattr(options, name) is None:
                setattr(options, name, told.get(name))
        for name in ("rotate_certificates", "server_tls_bootstrap"):
            if getattr(options, name, None) is None:
                setattr(options, name, True)
        options.client_ca_file = options.client_ca_file or str(_authority(options))
    if options.name_server and options.cluster_dns:
        labels = (options.node_labels, f"{CLUSTER_DNS_LABEL}=true")
        options.node_labels = ",".join(filter(None, labels))
    options.network = options.network or (NONE if options.cni_conf_dir else VXLAN)
    options.vxlan_id = options.vxlan_id or DEFAULT_VNI


def _document(file: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise Permanent(f"--join {file}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(document, dict):
        raise Permanent(f"--join {file}: not a kubeconfig")
    return document


def _extension(file: Path) -> dict[str, Any]:
    for entry in _document(file).get("extensions") or ():
        if entry.get("name") == EXTENSION:
            return dict(entry.get("extension") or {})
    raise Permanent(f"--join {file}: not made by `tiphys node token`")


def _authority(options: argparse.Namespace) -> Path:
    """Who may use the node API by certificate: whom the cluster's authority signed. Kept as a file of the node."""
    from tiphys.base.files import write_atomic
    from tiphys.client.config import load

    file = Path(options.root_dir, "pki", "cluster-ca.crt")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(file, load(options.join).ca, 0o644)
    return file

"""Start a cluster in the background and return when every node is Ready. Harmless when it runs already."""

from __future__ import annotations

import argparse
from pathlib import Path

from tiphys.cli.arguments import add_cluster_name, add_kubeconfig, port, whole
from tiphys.cli.output import Output, add_common
from tiphys.cli.ports import add_publish
from tiphys.cluster.ranges import IP_FAMILIES, MAX_NODES
from tiphys.overlay.types import MODES
from tiphys.proxy.services.config import BALANCINGS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cluster_name(parser)
    parser.add_argument("--nodes", type=whole(1, MAX_NODES), default=1, metavar="N", help="at least N nodes (1)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where a new cluster keeps its data")
    add_kubeconfig(parser)
    parser.add_argument("--keep-context", action="store_true", help="do not make the cluster kubectl's current context")
    parser.add_argument("--port", type=port, default=0, help="the API server's port (6443, or a free one)")
    parser.add_argument(
        "--image", type=Path, action="append", default=[], metavar="TAR", help="load this image; may be repeated"
    )
    parser.add_argument(
        "--kubelet-config", type=Path, metavar="FILE", help="a KubeletConfiguration for all nodes; is kept"
    )
    parser.add_argument(
        "--node-size", default="", metavar="NAME=AMOUNT,...", help="what each node offers (an equal share)"
    )
    parser.add_argument("--overcommit", action="store_true", help="let the nodes offer more than the machine has")
    parser.add_argument(
        "--ip-family", choices=tuple(IP_FAMILIES), default="", help="of a new cluster's nodes, pods and Services (ipv4)"
    )
    text = "how Services choose among endpoints, unless they are annotated (random)"
    parser.add_argument("--balancing", choices=BALANCINGS, default="", help=text)
    parser.add_argument(
        "--cni",
        default="",
        metavar="DIR",
        help="of a new cluster: plugins configured there (or in DIR/NODE) connect pods",
    )
    parser.add_argument(
        "--cni-bin-dir", default="", metavar="DIR:...", help="where CNI plugins are (/opt/cni/bin:/usr/lib/cni)"
    )
    add_publish(parser)
    text = "the address of this machine at which nodes of others may join (`tiphys node token`); none: no more"
    parser.add_argument("--listen", default="", metavar="ADDRESS", help=text)
    text = "the way to the pods of nodes that joined: vxlan (default), host-routes (all in one link), none"
    parser.add_argument("--network", default="", choices=MODES, help=text)
    parser.add_argument("--store", default="", metavar="URL", help="sqlite (default), memory: or an etcd URL")
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import lifecycle

    output = Output(options)
    result = lifecycle.up(
        lifecycle.UpOptions(
            name=options.name,
            nodes=options.nodes,
            data_dir=options.data_dir,
            kubeconfig=options.kubeconfig,
            port=options.port,
            images=options.image,
            store=options.store,
            kubelet_config=options.kubelet_config,
            node_size=options.node_size,
            overcommit=options.overcommit,
            keep_context=options.keep_context,
            publish=options.publish,
            listen=options.listen,
            overlay=options.network,
            ip_family=options.ip_family,
            balancing=options.balancing,
            cni=options.cni,
            cni_bin_dirs=options.cni_bin_dir,
        ),
        output.step,
    )
    config = result.config
    answer = {
        "name": config.name,
        "server": config.server,
        "context": config.context,
        "kubeconfig": str(result.kubeconfig),
        "nodes": [node.name for node in config.nodes],
        "started": list(result.started),
    }
    state = "is ready" if result.started else "was running already"
    output.result(answer, f"cluster {config.name} {state}: kubectl --context {config.context} get nodes")
    return 0

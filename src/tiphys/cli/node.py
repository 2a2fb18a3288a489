"""Add, remove and list the nodes of a running cluster."""

from __future__ import annotations

import argparse
import json

from tiphys.cli.arguments import add_cluster_flag, node_name
from tiphys.cli.output import Output, add_common
from tiphys.cluster.flag_values import duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="one node more; returns when it is Ready")
    add.add_argument("node", nargs="?", type=node_name, metavar="NODE", help="its name (node-N)")
    remove = actions.add_parser("remove", help="take a node out, with everything on it")
    remove.add_argument("node", type=node_name, metavar="NODE")
    down = actions.add_parser("shutdown", help="end its pods as before the machine goes down (shutdownGracePeriod)")
    down.add_argument("node", type=node_name, metavar="NODE")
    token = actions.add_parser("token", help="print a file by which a node of another machine joins")
    token.add_argument("--ttl", type=duration, default=86400.0, metavar="TIME", help="how long it may be used (24h)")
    found = actions.add_parser("list", help="the nodes and whether their processes run")
    for action in (add, remove, down, token, found):
        add_cluster_flag(action)
        add_common(action)


def run(options: argparse.Namespace) -> int:
    verbs = {"add": _add, "remove": _remove, "shutdown": _shutdown, "list": _list, "token": _token}
    return verbs[options.action](options, Output(options))


def _add(options: argparse.Namespace, output: Output) -> int:
    from tiphys.cluster import lifecycle

    node = lifecycle.add_node(options.name, options.node or "", output.step)
    output.result({"name": node.name}, f"node {node.name} is ready")
    return 0


def _remove(options: argparse.Namespace, output: Output) -> int:
    from tiphys.cluster import lifecycle

    left = lifecycle.remove_node(options.name, options.node, output.step)
    for thing in left:
        output.error(f"node {options.node}: not removed: {thing}")
    output.result({"removed": not left, "left": left}, "" if left else f"node {options.node} is removed")
    return 1 if left else 0


def _shutdown(options: argparse.Namespace, output: Output) -> int:
    from tiphys.cluster import kubelet_settings

    kubelet_settings.shut_down(options.name, options.node)
    output.result({"name": options.node}, f"node {options.node} ends its pods and takes no more")
    return 0


def _list(options: argparse.Namespace, output: Output) -> int:
    from tiphys.cluster import config, processes

    found = config.existing(options.name)
    rows = [
        {
            "name": node.name,
            "state": "Running" if processes.pid_of(found.paths.lock(node.name)) else "Stopped",
            "address": ",".join(map(str, found.node_addresses(node))),
            "pods": ",".join(map(str, found.pod_cidrs(node))),
        }
        for node in found.nodes
    ]
    output.table(rows, ("Name", "State", "Address", "Pods"))
    return 0


def _token(options: argparse.Namespace, output: Output) -> int:
    from tiphys.cluster.join import command

    file = command.make(options.name, options.ttl)
    output.step("on the other machine, as root: tiphys kubelet --join FILE")
    print(json.dumps(file, indent=2))
    return 0

"""Print the administrator's kubeconfig of a cluster, or with --merge put it into yours and select it."""

from __future__ import annotations

import argparse

from tiphys.cli.arguments import add_cluster_name, add_kubeconfig
from tiphys.cli.output import Output, add_common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cluster_name(parser)
    parser.add_argument("--merge", action="store_true", help="merge it into the kubeconfig instead of printing it")
    parser.add_argument("--keep-context", action="store_true", help="with --merge: leave the current context alone")
    add_kubeconfig(parser)
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import config, kubeconfig, lifecycle

    output = Output(options)
    found = config.existing(options.name)
    if options.merge:
        changed = lifecycle.merge_kubeconfig(found, options.kubeconfig, not options.keep_context)
        output.result({"kubeconfig": str(changed)}, f"context {found.context} in {changed}")
        return 0
    content = lifecycle.admin_kubeconfig(found)
    output.quiet = False
    output.result(content, kubeconfig.dump(content).decode().rstrip())
    return 0

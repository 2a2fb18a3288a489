"""Print what a component of a cluster logged: control-plane (default) or a node's name."""

from __future__ import annotations

import argparse
import sys
from collections import deque

from tiphys.base.errors import Permanent
from tiphys.cli.arguments import add_cluster_flag
from tiphys.cli.output import Output, add_common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("component", nargs="?", default="", metavar="COMPONENT", help="one component (default: all)")
    add_cluster_flag(parser)
    parser.add_argument("--tail", type=int, default=0, metavar="N", help="only the last N lines of each")
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import config
    from tiphys.cluster.lifecycle import CONTROL_PLANE

    output = Output(options)
    found = config.existing(options.name)
    known = [CONTROL_PLANE, *(node.name for node in found.nodes)]
    if options.component and options.component not in known:
        raise Permanent(f"no component {options.component!r}; components: {', '.join(known)}")
    logs = {}
    for component in [options.component] if options.component else known:
        try:
            with found.paths.log(component).open(errors="replace") as file:
                logs[component] = list(deque(file, options.tail or None))
        except FileNotFoundError:
            logs[component] = []
    if output.json:
        output.result({component: [line.rstrip("\n") for line in lines] for component, lines in logs.items()}, "")
    for component, lines in () if output.json else logs.items():
        prefix = "" if options.component else f"{component}: "
        sys.stdout.writelines(prefix + line for line in lines)
    return 0

"""Print what the components of a cluster logged: control-plane, each node by its name, and gateway."""

from __future__ import annotations

import argparse
import json
import sys

from tiphys.base.errors import Permanent
from tiphys.cli.arguments import add_cluster_flag, whole
from tiphys.cli.output import Output, add_common

EVERYTHING = -1
MOST_LINES = 1 << 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("component", nargs="?", default="", metavar="COMPONENT", help="one component (default: all)")
    add_cluster_flag(parser)
    parser.add_argument(
        "--tail",
        type=whole(EVERYTHING, MOST_LINES),
        default=EVERYTHING,
        metavar="N",
        help="only the last N lines of each (-1: all)",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is logged from now on")
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import config, logs
    from tiphys.cluster.processes import CONTROL_PLANE, GATEWAY

    output = Output(options)
    found = config.existing(options.name)
    gateway = [GATEWAY] if found.paths.log(GATEWAY).exists() else []
    known = [CONTROL_PLANE, *(node.name for node in found.nodes), *gateway]
    if options.component and options.component not in known:
        raise Permanent(f"no component {options.component!r} in cluster {found.name}; components: {', '.join(known)}")
    chosen = [options.component] if options.component else known
    readers = {component: logs.LogReader(found.paths.log(component)) for component in chosen}
    ends = {component: reader.last(options.tail) for component, reader in readers.items()}

    def write(component: str, line: str) -> None:
        prefix = "" if options.component else f"{component}: "
        text = json.dumps({"component": component, "line": line}) if output.json else prefix + line
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    if output.json and not options.follow:
        output.result(ends, "")
        return 0
    for component, lines in ends.items():
        for line in lines:
            write(component, line)
    if options.follow:
        logs.follow(readers, found.paths.log(CONTROL_PLANE).parent, write)
    return 0

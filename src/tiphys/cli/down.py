"""Stop a cluster: its processes and containers. Objects and files stay; `tiphys up` brings it back."""

from __future__ import annotations

import argparse

from tiphys.cli.arguments import add_cluster_name, seconds
from tiphys.cli.output import Output, add_common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cluster_name(parser)
    parser.add_argument(
        "--grace", type=seconds, default=5.0, metavar="SECONDS", help="how long containers may take to stop (5)"
    )
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import lifecycle

    output = Output(options)
    config = lifecycle.down(options.name, options.grace, output.step)
    output.result({"name": config.name, "state": "Stopped"}, f"cluster {config.name} is stopped, its data is kept")
    return 0

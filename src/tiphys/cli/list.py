"""List the clusters of this machine."""

from __future__ import annotations

import argparse

from tiphys.cli.output import Output, add_common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import status

    rows = [
        {
            "name": found.config.name,
            "state": found.state,
            "nodes": len(found.config.nodes),
            "server": found.config.server,
            "context": found.config.context,
        }
        for found in status.every()
    ]
    Output(options).table(rows, ("Name", "State", "Nodes", "Server", "Context"))
    return 0

"""Tell what runs of a cluster. Exit code 0: all of it; 1: a part or nothing."""

from __future__ import annotations

import argparse

from tiphys.cli.arguments import add_cluster_name
from tiphys.cli.output import Output, add_common
from tiphys.cli.ports import rows as port_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cluster_name(parser)
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import config, status
    from tiphys.cluster.ports import manage

    output = Output(options)
    found = status.of(config.existing(options.name))
    rows = [
        {
            "component": component.name,
            "state": "Running" if component.pid else "Stopped",
            "pid": component.pid or "-",
            "memory": f"{component.memory / 2**20:.0f} MiB" if component.pid else "-",
        }
        for component in found.components
    ]
    ports = manage.states(found.config)
    if output.json:
        output.result(
            {
                "name": found.config.name,
                "state": found.state,
                "server": found.config.server,
                "ipFamily": found.config.ip_family,
                "context": found.config.context,
                "data": found.config.data,
                "components": [
                    {"component": c.name, "running": bool(c.pid), "pid": c.pid, "memoryBytes": c.memory}
                    for c in found.components
                ],
                "ports": ports,
            },
            "",
        )
    else:
        output.result(None, f"cluster {found.config.name}: {found.state}, {found.config.server}")
        if not output.quiet:
            output.table(rows, ("Component", "State", "PID", "Memory"))
            if ports:
                print()
                output.table(port_rows(ports, output), ("Port", "State"))
    return 0 if found.state == "Running" else 1

"""Remove clusters (the default one, unless named): processes, containers, mounts, cgroups, network, files, contexts.

What could not be removed is printed, and the exit code is 1."""

from __future__ import annotations

import argparse

from tiphys.base.errors import TiphysError
from tiphys.cli.arguments import add_kubeconfig, cluster_name
from tiphys.cli.output import Output, add_common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("name", nargs="*", type=cluster_name, default=[], metavar="NAME", help="the clusters to remove")
    which.add_argument("--all", action="store_true", help="all clusters of this machine")
    add_kubeconfig(parser)
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import config, lifecycle

    lifecycle.require_root("delete")
    output = Output(options)
    left: dict[str, list[str]] = {}
    for name in config.names() if options.all else options.name or [config.DEFAULT_NAME]:
        try:
            left[name] = lifecycle.delete(name, options.kubeconfig, output.step)
        except (TiphysError, OSError) as error:
            left[name] = [str(error)]
    lifecycle.sweep()
    for name, things in left.items():
        for thing in things:
            output.error(f"cluster {name}: not removed: {thing}")
    done = [name for name, things in left.items() if not things]
    output.result(
        {"deleted": done, "left": {name: things for name, things in left.items() if things}},
        "\n".join(f"cluster {name} is deleted" for name in done),
    )
    return 1 if any(left.values()) else 0

"""Run a process of a cluster in the foreground: what `tiphys up` starts, and what a service manager may start."""

from __future__ import annotations

import argparse
import gc
import logging

from tiphys.base import log
from tiphys.cli.arguments import add_cluster_flag
from tiphys.cli.foreground import run_loop

GC_THRESHOLDS = (50_000, 20, 20)
"""Most objects here live long: collecting the youngest less often costs less (docs/performance.md)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("process", choices=("control-plane", "node", "gateway", "agent"))
    parser.add_argument("--node", default="", metavar="NODE", help="which node to be")
    add_cluster_flag(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import config, processes

    if options.process == "agent":
        return _agent()
    found = config.existing(options.name)
    component = found.node(options.node).name if options.process == "node" else options.process
    gc.set_threshold(*GC_THRESHOLDS)
    processes.hold(found.paths.lock(component))
    log.configure(logging.INFO)
    if options.process == "control-plane":
        from tiphys.cluster import control_plane

        return run_loop(control_plane.run(found), trace=True)
    if options.process == "gateway":
        from tiphys.cluster import gateway

        return run_loop(gateway.run(found), trace=True)
    from tiphys.cluster import node

    return run_loop(node.run(found, found.node(options.node)), trace=True)


def _agent() -> int:
    """The agent of rootless mode: of all clusters of the user, not of one."""
    from pathlib import Path

    from tiphys.base import outside
    from tiphys.cluster import agent, processes

    path = Path(outside.agent())
    lock = path.with_suffix(".lock")
    processes.hold(lock)
    log.configure(logging.INFO)
    with agent.listening(path) as server:
        processes.announce_ready(lock)
        return run_loop(agent.run(server), trace=True)

"""Run a process of a cluster in the foreground: what `tiphys up` starts, and what a service manager may start."""

from __future__ import annotations

import argparse
import gc
import logging
import sys
from collections.abc import Coroutine
from typing import Any

from tiphys.cli.arguments import add_cluster_flag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("process", choices=("control-plane", "node"))
    parser.add_argument("--node", default="", metavar="NODE", help="which node to be")
    add_cluster_flag(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import config, processes

    found = config.existing(options.name)
    component = options.process if options.process == "control-plane" else found.node(options.node).name
    gc.set_threshold(50_000, 20, 20)
    lock = processes.hold(found.paths.lock(component))
    log_to_stderr()
    logging.getLogger("tiphys").info("%s of cluster %s, lock %d", component, found.name, lock)
    if options.process == "control-plane":
        from tiphys.cluster import control_plane

        return run_loop(control_plane.run(found))
    from tiphys.cluster import node

    return run_loop(node.run(found, found.node(options.node)))


def run_loop(main: Coroutine[Any, Any, None]) -> int:
    """Run on uvloop; an error that ends the process is one line for people, with its trace in the log."""
    import uvloop

    try:
        uvloop.run(main)
    except Exception as error:  # noqa: BLE001 - the boundary: a component ends, and says why
        logging.getLogger("tiphys").exception("stopped by an error")
        print(f"tiphys: {_first(error)}", file=sys.stderr)
        return 1
    return 0


def log_to_stderr() -> None:
    """One line a record: time, level, component, text."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s"
    )


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error

"""Run the scheduler alone, in the foreground, against the API server of a kubeconfig."""

from __future__ import annotations

import argparse

from tiphys.cli.foreground import add_logging, run_component


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tiphys.cluster.components import add_client_flags, add_scheduler_flags

    add_client_flags(parser)
    add_scheduler_flags(parser)
    add_logging(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import components

    return run_component(components.run_scheduler(options), options)

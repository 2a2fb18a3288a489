"""Run a name server for a cluster alone, in the foreground, against the API server of a kubeconfig."""

from __future__ import annotations

import argparse

from tiphys.cli.foreground import add_logging, run_component


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tiphys.cluster.dns_component import add_flags

    add_flags(parser)
    add_logging(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import dns_component

    return run_component(dns_component.run(options), options)

"""Run a node alone, in the foreground, against the API server of a kubeconfig. Needs root."""

from __future__ import annotations

import argparse

from tiphys.cli.foreground import add_logging, run_component


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tiphys.cluster.components import add_kubelet_flags

    add_kubelet_flags(parser)
    add_logging(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import components, lifecycle

    lifecycle.require_root("kubelet")
    return run_component(components.run_kubelet(options), options)

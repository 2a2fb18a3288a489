"""Run the Services' proxy alone, in the foreground, with kube-proxy's flags. Needs root."""

from __future__ import annotations

import argparse

from tiphys.cli.foreground import add_logging, run_component


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tiphys.cluster.proxy_flags import add_flags

    add_flags(parser)
    add_logging(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import lifecycle, proxy_component

    if not options.write_config_to:
        lifecycle.require_root("proxy")
    return run_component(proxy_component.run(options), options)

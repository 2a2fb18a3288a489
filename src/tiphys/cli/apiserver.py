"""Run an API server alone, in the foreground. With nothing but --data-dir it makes its own certificates there."""

from __future__ import annotations

import argparse

from tiphys.cli.foreground import add_logging, run_component


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tiphys.apiserver.serve import add_flags

    add_flags(parser)
    add_logging(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.apiserver import serve

    return run_component(serve.run(options), options)

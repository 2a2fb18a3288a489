"""Print the versions of Tiphys, of the Kubernetes that it speaks, and of Python."""

from __future__ import annotations

import argparse
import platform

from tiphys import KUBERNETES_VERSION, __version__
from tiphys.cli.output import Output, add_common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    versions = {"tiphys": __version__, "kubernetes": KUBERNETES_VERSION, "python": platform.python_version()}
    output = Output(options)
    output.quiet = False
    output.result(versions, "\n".join(f"{name} {version}" for name, version in versions.items()))
    return 0

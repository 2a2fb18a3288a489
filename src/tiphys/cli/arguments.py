"""Arguments that several commands share."""

from __future__ import annotations

import argparse

from tiphys.cluster.config import DEFAULT_NAME


def add_cluster_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="NAME", default=DEFAULT_NAME, help=f"the cluster's name ({DEFAULT_NAME})"
    )


def add_cluster_flag(parser: argparse.ArgumentParser) -> None:
    """For commands whose positional arguments are something else."""
    parser.add_argument("--name", metavar="NAME", default=DEFAULT_NAME, help=f"the cluster's name ({DEFAULT_NAME})")


def add_kubeconfig(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kubeconfig",
        metavar="FILE",
        default="",
        help="the kubeconfig to change (default: $KUBECONFIG, then ~/.kube/config)",
    )


def positive(text: str) -> int:
    """An argument that must be a whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be 1 or more")
    return number


def port(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: a TCP port is a number from 1 to 65535")
    return number
